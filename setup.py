"""Which packages make up Tandem: what `pip install .` takes and Beam ships to its workers.

Everything else (name, version, dependencies, entry point) stands in pyproject.toml.
"""

from setuptools import find_packages, setup

PACKAGES = ("components", "models", "pipeline", "schemas", "serving")

setup(
    packages=find_packages(
        include=[p for name in PACKAGES for p in (name, f"{name}.*")]
    ),
    package_data={
        "components": ["data_report/*.css", "data_report/*.jinja"],
        "models": ["release_marker.txt"],
        "pipeline": ["configs/*.yaml"],
        "schemas": ["*.pbtxt"],
        "serving": ["page/*.css", "page/*.jinja"],
    },
)
