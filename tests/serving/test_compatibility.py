"""Which servers can load a release, by what its manifest and their names say."""

import pytest
from packaging.version import Version

from serving.compatibility import (
    Compatibility,
    ModelNeeds,
    Server,
    Signature,
    differences,
    refusals,
    server_of_image,
)


def model(*custom: str, tensorflow: str = "2.20.0", **changes) -> ModelNeeds:
    facts = {
        "tensorflow": tensorflow,
        "graph_version": 2288,
        "min_consumer": 12,
        "ops": ("AddV2", "MatMul"),
        "custom_ops": custom,
        "signatures": {"recommend": Signature(inputs={"k": "int32 []"}, outputs={})},
    }
    return ModelNeeds(**facts | changes)


def release(recommender: ModelNeeds, schema_hash: str | None = "aa") -> Compatibility:
    return Compatibility(
        models={"recommender": recommender, "recommender_exact": model()},
        cpu_flags={"tensorflow": ("avx",), "scann": ("avx", "fma")},
        schema_hash=schema_hash,
    )


SCANN = release(model("Scann>ScannSearchBatched"))


@pytest.mark.parametrize(
    ("image", "version", "has_scann"),
    [
        ("tensorflow/serving:2.20.0", "2.20.0", False),
        ("tensorflow/serving:2.20.0-gpu", "2.20.0", False),
        ("docker.io/tensorflow/serving:2.19.1-devel", "2.19.1", False),
        ("localhost:5000/me/serving:2.20.0+scann", "2.20.0", True),
        ("google/tf-serving-scann:2.11.0", "2.11.0", True),
        ("me/serving:2.21", "2.21", False),
    ],
)
def test_images_by_name(image, version, has_scann):
    assert server_of_image(image) == Server(image, Version(version), has_scann)


@pytest.mark.parametrize(
    "image",
    ["", "tensorflow/serving", "tensorflow/serving:latest", "2.20.0", "a:2.20+scanns"],
)
def test_a_name_that_does_not_say_what_is_in_it_is_refused(image):
    with pytest.raises(ValueError, match="should be named like"):
        server_of_image(image)


def test_the_stock_image_is_not_believed_to_have_scann():
    with pytest.raises(ValueError, match="has no ScaNN ops"):
        server_of_image("tensorflow/serving:2.20.0+scann")


def check_refusals(judge):
    """Judges servers that each lack one thing, and one that lacks nothing."""

    def reasons(name, image, needs=SCANN):
        return judge(needs, name, server_of_image(image))

    stock = "tensorflow/serving:2.20.0"
    assert "no op Scann>ScannSearchBatched" in reasons("recommender", stock)[0]
    assert "no op" in reasons("recommender", f"{stock}-gpu")[0]
    assert reasons("recommender_exact", f"{stock}-gpu") == []
    assert reasons("recommender", "me/s:2.20.0+scann") == []
    (too_old,) = reasons("recommender_exact", "tensorflow/serving:2.19.1")
    assert "2.19.1 is older" in too_old
    assert reasons("recommender_exact", "tensorflow/serving:2.21.0") == []
    assert reasons("recommender_exact", "tensorflow/serving:3.0.0") == []
    newer_patch = release(model(tensorflow="2.20.1"))
    assert reasons("recommender", stock, newer_patch) == []
    foreign = release(model("Mine>Op"))
    assert reasons("recommender", "me/s:2.20.0+scann", foreign) == [
        "no server is known to have the op Mine>Op"
    ]

    def here(flags, name="recommender"):
        return judge(SCANN, name, Server("here", Version("2.20"), True, flags))

    assert here(["avx", "fma"]) == []
    assert here(["avx"]) == ["the CPU has no fma"]
    assert here(["avx"], "recommender_exact") == []
    assert here([], "recommender_exact") == ["the CPU has no avx"]


def test_refusals():
    check_refusals(refusals)


def by_exact_version(needs, name, server):
    same = str(server.tensorflow) == needs.models[name].tensorflow
    return [] if same else refusals(needs, name, server)


def blind_to_ops(needs, name, server):
    return [reason for reason in refusals(needs, name, server) if "op" not in reason]


def scann_code_for_all(needs, name, server):
    return refusals(needs, "recommender", server)


@pytest.mark.parametrize("wrong", [by_exact_version, blind_to_ops, scann_code_for_all])
def test_checker_rejects_wrong_judges(wrong):
    with pytest.raises((AssertionError, IndexError)):
        check_refusals(wrong)


def test_a_manifest_that_agrees_differs_in_nothing():
    assert differences(SCANN, SCANN.model_copy(deep=True)) == []


@pytest.mark.parametrize(
    ("seen", "part"),
    [
        (release(model()), "recommender: custom_ops is ('Scann>ScannSearchBatched',)"),
        (release(model("Scann>ScannSearchBatched", ops=("Add",))), "ops is"),
        (
            release(model("Scann>ScannSearchBatched", signatures={})),
            "recommender: signatures",
        ),
        (release(model("Scann>ScannSearchBatched"), None), "schema_hash is aa"),
        (
            SCANN.model_copy(update={"models": {}}),
            "describes ['recommender', 'recommender_exact'], the files are of []",
        ),
    ],
)
def test_differences_are_named(seen, part):
    (difference,) = differences(SCANN, seen)
    assert part in difference
