"""A pytest that a test starts: to load all plugins that are installed takes it seconds, ours alone little."""

ARGUMENTS = ("-p", "emulator.pytest_plugin", "-p", "no:cacheprovider")
VARIABLES = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
