"""Verify: how safe a written folder is, from a second look at its files, and its manifest where there is one."""
