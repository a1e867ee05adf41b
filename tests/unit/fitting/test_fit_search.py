"""The cheapest changes, against all sets there are; prices; and changes by name."""

from __future__ import annotations

from itertools import product

import pytest

from peakmem.errors import UsageError
from peakmem.fitting.answers import Answers
from peakmem.fitting.changes import OFFERS, Change, Site, named, offer, offers
from peakmem.fitting.knobs import knobs
from peakmem.fitting.likely import likely
from peakmem.fitting.parts import Answer
from peakmem.fitting.place import place
from peakmem.fitting.prices import Price, price, prices
from peakmem.fitting.question import Question
from peakmem.fitting.search import Search, changed
from peakmem.report.fit import Part

NETWORK = "mobilenet_v2:width=0.5,classes=10"


def site(question, where, **more):
    return Site(question, where, tuple(knobs(question)), frozenset({"float"}), **more)


def sets(families):
    """Every set of changes of different families, as {name: cost}."""
    for picked in product(*((None, *family) for family in families)):
        yield tuple(one for one in picked if one is not None)


@pytest.mark.parametrize(
    ("where", "asked"),
    [
        (place("stm32f746"), {"file": "weights"}),
        pytest.param(place("4MiB"), {}, marks=pytest.mark.slow),
        pytest.param(place("24MiB"), {"batch": 8}, marks=pytest.mark.slow),
        pytest.param(
            place(ram="2MiB", storage="1MiB", weights_in_flash=True), {"file": "weights"}, marks=pytest.mark.slow
        ),
    ],
)
def test_the_cheapest_minimal_sets_and_no_others(where, asked):
    question = Question(NETWORK, **asked)
    answers = Answers(where)
    families = tuple(family[-2:] for family in offers(site(question, where)))
    looking = Search(answers, question, families, (), wanted=5, most=10_000)
    listed = [one for one in looking.run() if one.rank]
    assert not answers.of(question).holds
    holds = {chosen: answers.of(changed(question, chosen)).holds for chosen in sets(families) if len(chosen) <= 4}
    order = [[one.name for one in family] for family in families]

    def milder(one, other):
        names = next(names for names in order if one.name in names)
        return other.name in names and names.index(other.name) <= names.index(one.name)

    def beaten(chosen):
        return any(
            fits and rest != chosen and all(any(milder(one, other) for one in chosen) for other in rest)
            for rest, fits in holds.items()
        )

    minimal = [chosen for chosen, fits in holds.items() if fits and not beaten(chosen)]
    costs = sorted(sum(one.price.cost for one in chosen) for chosen in minimal)
    found = [sum(one.price.cost for one in chosen) for chosen in looking.found]
    assert found == pytest.approx(costs[:5])
    assert {tuple(one.names) for one in listed} <= {tuple(one.name for one in chosen) for chosen in minimal}
    assert [one.rank for one in listed] == list(range(1, len(listed) + 1))


def test_when_the_cheapest_are_too_many_one_without_a_change_to_spare_is_found():
    where = place("stm32f746")
    question = Question("mobilenet_v2", file="weights")
    families = offers(site(question, where))
    looking = Search(Answers(where), question, families, (), most=3)
    looking.run()
    (only,) = looking.found
    answers = Answers(where)
    assert answers.of(changed(question, only)).holds
    for spared in only:
        assert not answers.of(changed(question, [one for one in only if one is not spared])).holds


def test_combined_effects_are_not_added_up():
    """What the sum in place saves in float32 it saves a quarter of in int8: each set is analysed."""
    where = place("50MiB")
    question = Question("resnet50")
    answers = Answers(where)
    added, int8 = named(["dtype=int8", "assume=fused_add"], site(question, where))
    base = answers.of(question).parts[0].needed_bytes
    alone = [answers.of(changed(question, [one])).parts[0].needed_bytes for one in (int8, added)]
    both = answers.of(changed(question, [int8, added])).parts[0].needed_bytes
    # live peaks of ResNet-50: 2,408,448 elements fused, 1,806,336 with the sum in place
    assert base - alone[1] == (2_408_448 - 1_806_336) * 4
    assert alone[0] - both == 2_408_448 - 1_806_336
    assert both != sum(alone) - base


def test_a_network_whose_changes_all_fail_says_so():
    where = place("10KiB")
    question = Question(NETWORK)
    looking = Search(Answers(where), question, offers(site(question, where)), ())
    assert not [one for one in looking.run() if one.rank]
    assert looking.exhausted


@pytest.mark.parametrize(
    ("texts", "made"),
    [
        (["dtype=int8"], Question(NETWORK, dtype="int8")),
        (["dtype=fp16"], Question(NETWORK, dtype="float16")),
        (["weights=int4", "batch=2"], Question(NETWORK, weights="int4", batch=2)),
        (["resolution=100"], Question("mobilenet_v2:width=0.5,classes=10,resolution=100")),
        (["width=0.25", "assume=naive"], Question("mobilenet_v2:width=0.25,classes=10", assume="naive")),
        (["devices=3"], Question(NETWORK, devices=3)),
    ],
)
def test_changes_by_name(texts, made):
    question = Question(NETWORK)
    assert changed(question, named(texts, site(question, place("1MiB")))) == made


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["dtype=int9"], "int9"),
        (["dtyp=int8"], "--change dtype=int8"),
        (["sheep"], "no change is called 'sheep'"),
        (["batch=none"], "is no number"),
        (["batch=0"], "more than 0"),
        (["batch=2.5"], "a whole number"),
        (["devices=1.5"], "a whole number"),
        (["batch=1e400"], "at most"),
        (["width=1/0"], "is no number"),
        (["resolution=999999"], "at most 16,384"),
        (["dtype=int8", "dtype=float16"], "given twice"),
        (["engine=ncnm"], "no change is called"),
    ],
)
def test_what_is_no_change_is_refused(texts, said):
    with pytest.raises(UsageError, match=said):
        named(texts, site(Question(NETWORK), place("1MiB")))


def test_every_row_of_the_price_table_says_why():
    assert all(row.said and row.reason and row.cost > 0 for row in prices().values())


def test_going_further_costs_more():
    assert price("resolution", before=224, after=112).cost == prices()["resolution"].cost + 8
    assert price("resolution", before=224, after=56).cost == prices()["resolution"].cost + 16
    assert price("batch", before=8, after=4).cost < price("batch", before=8, after=1).cost


def test_every_offered_change_has_a_price_and_a_command():
    question = Question(NETWORK, batch=8)
    for family in offers(site(question, place("1MiB"), devices_needed=2)):
        assert [one.price.cost for one in family] == sorted(one.price.cost for one in family)
        for one in family:
            assert one.made(question) != question


def test_a_microcontroller_gets_no_kernels_that_it_has_not():
    names = {one.name for family in offers(site(Question(NETWORK), place("stm32f746"))) for one in family}
    assert "dtype=float16" not in names
    assert not any(name.startswith("weights=") for name in names)
    assert {"dtype=int8", "w4a8"} <= names


def test_pools_that_keep_what_comes_back_are_an_option_of_ncnn():
    """What they keep beyond what lives is more than 150,000 B here; without them each blob goes back at once."""
    pytest.importorskip("pnnx")
    pytest.importorskip("torch")
    question = Question("mobilenet_v2:width=0.35,classes=10,resolution=96", engine="ncnn")
    need = Answers(place("1GiB")).of(question).parts[0].needed_bytes
    where = place(ram=need - 150_000)
    answers = Answers(where)
    looking = Search(
        answers, question, offers(site(question, where)), (), wanted=1, likely=likely(answers, question)
    )  # fmt: skip
    looking.run()
    ((only,),) = looking.found
    assert only.name == "pool_allocator=off"


def test_another_kind_of_change_is_one_function():
    """What is registered is tried beside the others, and its price decides its rank."""
    half = Change(
        "order=other", "order", "another order", Price("order", 0.5, "same result", "a permutation"),
        lambda _: Question("mobilenet_v2:width=0.25,resolution=64", dtype="int8"),
    )  # fmt: skip

    @offer
    def of_orders(_):
        yield half

    try:
        where = place("2MiB")
        looking = Search(Answers(where), Question(NETWORK), offers(site(Question(NETWORK), where)), ())
        assert looking.run()[0].names == ("order=other",)
    finally:
        OFFERS.remove(of_orders)


def test_an_answer_holds_by_its_bound_or_without_one_by_what_is_predicted():
    def of(outcome, bound):
        return Answer("", (Part("RAM", 5, 10, outcome, "", "estimate", bound),), 0, 0, 0, (), ())

    assert of("fits", 6).holds
    assert of("may fit", None).holds
    assert not of("may fit", 11).holds
    assert not of("cannot tell", None).holds
