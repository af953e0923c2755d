"""Who may do what: addresses, AE titles, certificates, users."""
