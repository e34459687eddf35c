"""Quick: how safe a folder is that the tool has written, from its manifest and a second look, without any labels."""
