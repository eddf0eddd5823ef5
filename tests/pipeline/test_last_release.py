"""Which release the gates compare with, and which one a span continues."""

import pytest

pytestmark = pytest.mark.component  # importing TFX takes seconds


def release(number, version, span=None):
    from components.artifacts import Release

    artifact = Release()
    artifact.id = number
    artifact.set_int_custom_property("version", version)
    if span is not None:
        artifact.set_string_custom_property("span", span)
    return artifact


def check_base(base_of):
    """The checker: the id of the release that a span continues, None where none is."""
    numbers = [
        release(1, 100, ""),  # of a run without a span
        release(2, 200, "9"),
        release(3, 300, "10"),
        release(4, 300, "10"),  # pushed again, and in place already
        release(5, 400, "11"),
    ]
    assert base_of(numbers, "12") == 5
    assert base_of(numbers, "11") == 3  # not the one that this span came to before
    assert base_of(numbers, "10") == 2
    assert base_of(numbers, "9") == 1
    assert base_of(numbers[1:], "9") is None
    assert base_of([], "9") is None
    # The newest by version, whatever its span: an old span was run again last.
    days = [release(1, 500, "2026-11-01"), release(2, 400, "2026-11-20")]
    assert base_of(days, "2026-11-21") == 1


def base_of(releases, span, strategy=None):
    from pipeline.last_release import BaseReleaseStrategy

    found = (strategy or BaseReleaseStrategy)(span).resolve_artifacts(
        None, {"release": releases}
    )
    return None if found is None else found["release"][0].id


def test_base_is_the_newest_release_of_an_earlier_span():
    check_base(base_of)


def newest(releases, span):
    return max((r.id for r in releases), default=None)


def own_too(releases, span):
    return base_of(releases, f"{span}0" if span.isdecimal() else span)


def spans_as_texts(releases, span):
    earlier = [r for r in releases if r.get_string_custom_property("span") < span]
    return earlier[-1].id if earlier else None


@pytest.mark.parametrize("wrong", [newest, own_too, spans_as_texts])
def test_base_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_base(wrong)


def test_gates_compare_with_the_newest_release_of_all():
    from pipeline.last_release import LastReleaseStrategy

    releases = [release(1, 300, "10"), release(2, 300, "10"), release(3, 200, "12")]
    found = LastReleaseStrategy().resolve_artifacts(None, {"release": releases})
    assert found["release"][0].id == 1
    assert LastReleaseStrategy().resolve_artifacts(None, {"release": []}) is None


def test_gates_compare_with_what_serves_where_a_release_was_taken_back():
    from pipeline.last_release import LastReleaseStrategy

    releases = [release(1, 300), release(2, 200), release(3, 100), release(4, 200)]

    def compared(incumbent: int) -> int:
        strategy = LastReleaseStrategy(incumbent)
        return strategy.resolve_artifacts(None, {"release": releases})["release"][0].id

    assert compared(200) == 2
    assert compared(100) == 3
    assert compared(50) == 1  # of which ML Metadata knows nothing


def test_a_span_does_not_continue_what_was_taken_back():
    from pipeline.last_release import BaseReleaseStrategy

    releases = [release(1, 100, "9"), release(2, 200, "10"), release(3, 300, "11")]

    def base(incumbent: int) -> int:
        strategy = BaseReleaseStrategy("12", incumbent)
        return strategy.resolve_artifacts(None, {"release": releases})["release"][0].id

    assert [base(incumbent) for incumbent in (0, 300, 200, 100)] == [3, 3, 2, 1]
