"""What is public, and what importing it costs."""

import inspect
import re
import subprocess
import sys

import peakmem
from peakmem.frontends import formats

READERS = re.findall(r'later\("([\w.:]+)"\)', inspect.getsource(formats))
HEAVY = (
    "numpy", "onnx", "torch", "onnxruntime", "tensorflow", "keras", "h5py", "yaml", "rich", "msgspec",
    "google.protobuf",
)  # fmt: skip


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*(n for n in {HEAVY!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_the_public_names_are_sorted_and_there():
    assert sorted(peakmem.__all__, key=str.lower) == sorted(peakmem.__all__, key=str.lower)
    assert list(peakmem.__all__) == sorted(peakmem.__all__)
    for name in peakmem.__all__:
        assert getattr(peakmem, name) is not None
    assert set(peakmem.__all__) == set(dir(peakmem))


def test_import_loads_no_runtime():
    assert loaded_by("import peakmem") == set()


def test_help_loads_no_runtime():
    code = "import peakmem.cli\ntry:\n    peakmem.cli.main(['--help'])\nexcept SystemExit:\n    pass"
    assert loaded_by(code) == set()


def test_readers_load_no_library_of_their_format():
    homes = [one.partition(":")[0] for one in READERS]
    assert len(homes) > 9
    assert loaded_by(f"import {', '.join(homes)}") == set()


def test_a_built_in_convolutional_network_needs_no_runtime():
    assert loaded_by("import peakmem; peakmem.estimate('mobilenet_v1')") == set()


def test_no_public_name_is_that_of_a_part():
    """A name of a subpackage would give the module once anybody has imported it."""
    from pathlib import Path

    folder = Path(peakmem.__file__).parent
    parts = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert set(peakmem.__all__) & parts == set()
