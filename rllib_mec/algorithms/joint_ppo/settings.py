def check_settings(config): pass
