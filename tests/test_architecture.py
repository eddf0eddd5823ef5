"""The house keeps its shape: what imports what, how large a room may be."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "models", "serving", "components", "pipeline")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # of code: without docstring, comments and blank lines
# Over a limit, each with its reason; a test says when one can go.
LONG: dict[str, str] = {}

SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> set[str]:
    """Returns the top-level names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def long_functions(text: str) -> dict[str, int]:
    """Returns the lines of code of each function that has too many."""
    lines = text.splitlines()
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            inside = lines[body[0].lineno - 1 : node.end_lineno] if body else []
            code = [line for line in inside if line.strip() and line.strip()[0] != "#"]
            if len(code) > MAX_FUNCTION_LINES:
                found[node.name] = len(code)
    return found


def importers(package: str) -> set[str]:
    return {
        relative(path)
        for path in SOURCES
        if package in imported(ast.parse(path.read_text()))
    }


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_file_and_its_functions_are_of_readable_length(path):
    text = path.read_text()
    num_lines = len(text.splitlines())
    found = {f"{relative(path)}:{name}": n for name, n in long_functions(text).items()}
    if num_lines > MAX_FILE_LINES:
        found[relative(path)] = num_lines
    new = {place: lines for place, lines in found.items() if place not in LONG}
    assert not new, f"split by question (lines): {new}"
    gone = {p for p in LONG if p.split(":")[0] == relative(path)} - set(found)
    assert not gone, f"no longer long, take it out of LONG: {gone}"


def test_length_checker_counts_code_alone():
    body = "    x = 1\n"
    head = 'def f():\n    """Text.\n\n    More.\n    """\n\n    # A comment.\n'
    assert long_functions(head + body * 60) == {}
    assert long_functions(head + body * 61) == {"f": 61}


def test_no_file_is_named_after_nothing():
    forbidden = {"utils.py", "common.py", "helpers.py", "misc.py"}
    assert not [relative(path) for path in SOURCES if path.name in forbidden]


def is_tfx_allowed(name: str) -> bool:
    return (
        name.endswith("_component.py")
        or name == "components/artifacts.py"
        or name.startswith("pipeline/")
        or (name.startswith("models/") and name.endswith("/trainer.py"))
    )


def test_tfx_stays_in_wrappers_artifacts_the_pipeline_and_trainers():
    names = importers("tfx")
    assert names  # the search itself works
    assert not {name for name in names if not is_tfx_allowed(name)}


def test_beam_stays_in_components():
    names = importers("apache_beam")
    assert names
    assert not {name for name in names if not name.startswith("components/")}


def test_retrieval_libraries_stay_in_models():
    names = importers("scann") | importers("tensorflow_recommenders")
    assert names
    assert not {name for name in names if not name.startswith("models/")}


def contracts() -> list[dict]:
    return PROJECT["tool"]["importlinter"]["contracts"]


def test_import_contract_lists_every_component_and_no_other():
    (contract,) = [c for c in contracts() if c.get("forbidden_modules") == ["tfx"]]
    listed = sorted(contract["ignore_imports"])
    wrappers = [
        module_name(path)
        for path in SOURCES
        if path.name.endswith("_component.py")
        or relative(path) == "components/artifacts.py"
    ]
    assert listed == sorted(f"{module} -> tfx" for module in wrappers)


def test_import_contracts_hold():
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, "run `uv run lint-imports` for the chain"


def test_every_folder_of_modules_is_a_package_that_setup_finds():
    folders = {path.parent for path in SOURCES}
    assert not [relative(f) for f in folders if not (f / "__init__.py").is_file()]
    wanted = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    include = [pattern for name in PACKAGES for pattern in (name, f"{name}.*")]
    assert set(find_packages(str(ROOT), include=include)) == wanted
    setup = ast.parse((ROOT / "setup.py").read_text())
    (packages,) = [
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "PACKAGES"
    ]
    assert set(packages) == set(PACKAGES)


def test_every_component_has_a_pure_core_beside_it():
    for path in SOURCES:
        if path.name.endswith("_component.py"):
            core = path.with_name(path.name.removesuffix("_component.py") + ".py")
            assert core.exists() or relative(path) == (
                "components/ingest_events_component.py"  # its core is a package
            ), relative(path)
    assert (ROOT / "components" / "ingestion").is_dir()


def run_python(code: str, folder: Path) -> str:
    """Runs code in an interpreter with an empty environment and an empty folder."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    process = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


_IMPORT_ALL = """
import importlib, os, socket

def refuse(*args, **kwargs):
    raise AssertionError("a connection at import")

socket.socket.connect = refuse
root = {root!r}

def watch(event, args):
    if event == "open" and str(args[0]).startswith(root):
        code = (".py", ".pyc", ".so")
        others = ("/.venv/", "/__pycache__/", ".egg-info/")
        if not args[0].endswith(code) and not any(o in args[0] for o in others):
            print("READ", args[0])

sys.addaudithook(watch)
for name in {modules!r}:
    importlib.import_module(name)
assert os.environ["TF_USE_LEGACY_KERAS"] == "1"
import tensorflow as tf
assert tf.keras.Model.__module__.startswith("tf_keras."), tf.keras.Model.__module__
print("ALL IMPORTED")
"""


@pytest.mark.component
def test_every_module_imports_in_an_empty_environment(tmp_path):
    modules = [module_name(path) for path in SOURCES]
    code = _IMPORT_ALL.format(root=f"{ROOT}/", modules=modules)
    output = run_python(code, tmp_path).splitlines()
    assert output[-1] == "ALL IMPORTED"
    assert not [line for line in output if line.startswith("READ ")]
    assert list(tmp_path.iterdir()) == []


_KERAS_SWITCH = """
import importlib, importlib.abc, os

class Watch(importlib.abc.MetaPathFinder):
    '''Notes who asks for TensorFlow, and whether the switch was set by then.'''

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "tfx"):
            asked.append(os.environ.get("TF_USE_LEGACY_KERAS") == "1")
            raise ModuleNotFoundError(name, name=name)
        return None

sys.meta_path.insert(0, Watch())
for package, modules in {packages!r}.items():
    for name in [name for name in sys.modules if name.split(".")[0] in {own!r}]:
        del sys.modules[name]
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    asked = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            pass
    print(package, len(asked) > 0, all(asked))
"""


def keras_switch(packages: dict[str, list[str]], folder: Path) -> dict[str, list[str]]:
    """Returns (asks for TensorFlow, always with the switch set) for each package."""
    code = _KERAS_SWITCH.format(packages=packages, own=PACKAGES)
    lines = run_python(code, folder).splitlines()
    return {package: rest for package, *rest in map(str.split, lines)}


@pytest.mark.component
def test_package_that_loads_tensorflow_has_set_the_keras_switch(tmp_path):
    packages = {
        name: [module_name(p) for p in SOURCES if relative(p).startswith(f"{name}/")]
        for name in PACKAGES
    }
    answers = keras_switch(packages, tmp_path)
    assert answers["schemas"] == ["False", "True"]
    assert answers["models"] == ["True", "True"]
    # TFX and TensorFlow Recommenders read the switch; the server never uses Keras.
    assert answers["components"] == ["True", "True"]
    assert answers["pipeline"] == ["True", "True"]
