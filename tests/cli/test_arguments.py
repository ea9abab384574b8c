"""Arguments that are not understood: one sentence, exit code 2."""

import pytest

from st4rtrack.cli.main import BENCH, COMMANDS
from tests.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("run v.mp4 --refin", "unknown option --refin of st4rtrack run; did you mean --refine?"),
        ("run v.mp4 --no-overwrite", "unknown option --no-overwrite of st4rtrack run; did you mean --overwrite?"),
        ("run v.mp4 --batch_siz=3", "unknown option --batch_siz of st4rtrack run; did you mean --batch-size?"),
        ("batch v --overwrit", "unknown option --overwrit of st4rtrack batch; did you mean --overwrite?"),
        ("bench table --dat x", "unknown option --dat of st4rtrack bench table; did you mean --data?"),
        ("rnu v.mp4", "unknown command rnu of st4rtrack; did you mean run?"),
        ("--refine", "unknown option --refine of st4rtrack; st4rtrack --help lists them"),
        ("bench scor", "unknown command scor of st4rtrack bench; did you mean score?"),
        ("run", "st4rtrack run needs VIDEO; st4rtrack run --help explains it"),
        (
            "export scene ply --colr",
            "unknown option --colr of st4rtrack export SCENE ply; st4rtrack export SCENE ply --help lists them",
        ),
        ("bench table", "st4rtrack bench table needs --data, --output; st4rtrack bench table --help explains it"),
        ("run a.mp4 b.mp4", "unexpected argument b.mp4 of st4rtrack run; st4rtrack run --help explains it"),
        ("run v.mp4 --size", "--size needs a value; st4rtrack run --help explains it"),
        ("run v.mp4 --size abc", "--size cannot be 'abc'; st4rtrack run --help explains it"),
        ("adapt v.mp4 --steps x", "--steps cannot be 'x'; st4rtrack adapt --help explains it"),
        (
            "run v.mp4 --dtype-points float8",
            "--dtype-points must be one of float32, float16, got 'float8'; st4rtrack run --help explains it",
        ),
    ],
)
def test_understood_mistaken_arguments_are_one_sentence(run: Run, arguments: str, sentence: str) -> None:
    code, said = run(*arguments.split())
    assert (code, said.strip()) == (2, f"st4rtrack: {sentence}")


@pytest.mark.parametrize(
    "command", [*(name for name in COMMANDS if name not in ("bench", "export")), *(f"bench {name}" for name in BENCH)]
)
def test_understood_unknown_option_of_every_command_is_named(run: Run, command: str) -> None:
    code, said = run(*command.split(), "--quikc-nonsense", "3")
    assert code == 2
    assert (
        said.strip()
        == f"st4rtrack: unknown option --quikc-nonsense of st4rtrack {command}; st4rtrack {command} --help lists them"
    )


def test_understood_help_is_printed(run: Run) -> None:
    code, said = run("run", "--help")
    assert code == 0 and "--refine" in said and "Temporally smooth" in said
