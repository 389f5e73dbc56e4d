"""An example service, and the driver that tries it over real HTTP."""
