TEXT = "module"
