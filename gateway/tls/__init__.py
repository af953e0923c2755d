"""TLS contexts of our ports and of connections that we open."""
