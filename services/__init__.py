"""The Bowerbird services, one package each."""
