"""How well it protects: what a recogniser still makes of what the tool wrote."""
