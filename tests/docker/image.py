"""The image and the compose file, parsed, and the variables that the emulator knows."""

import typer.main
import yaml

from emulator.cli import cli
from tests.docker.dockerfile import PROJECT, read_dockerfile

BUILDER, IMAGE = read_dockerfile(PROJECT / "Dockerfile")
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
VARIABLES = {
    parameter.envvar for parameter in typer.main.get_command(cli).commands["serve"].params if parameter.envvar
}
