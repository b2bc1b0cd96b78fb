import re
from itertools import combinations
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.learning.embedded.draws import Draws
from cosim.learning.embedded.grammar import (
    DOMAINS,
    HELD_OUT,
    Example,
    article,
    examples,
    lexicon,
    split,
    wordings,
)
from cosim.rng import stream

SEEDS = st.integers(min_value=0, max_value=2**63)
SOME_DOMAIN = st.sampled_from(DOMAINS)
FIELDS = re.compile(r"{(\w+)}")
VOWEL_SOUNDS = re.compile(r"(?!uni|use|one)[aeiou]|8|11\b|18\b|hour\b", re.IGNORECASE)


@given(
    SEEDS,
    st.lists(st.tuples(st.sampled_from(["pick", "shuffled", "random"]), st.integers(1, 40)), max_size=60),
)
def test_draws_are_those_of_numpys_generator(seed, asked):
    draws, numpys = Draws(stream(seed, "text")), stream(seed, "text").generator()
    for what, count in asked:
        if what == "pick":
            assert draws.pick(range(count)) == (numpys.integers(count) if count > 1 else 0)
        elif what == "shuffled":
            assert draws.shuffled(range(count)) == numpys.permutation(count).tolist()
        else:
            assert draws.random() == numpys.random()


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.) ", text)


def stands_in(phrase: str, text: str) -> bool:
    return re.search(rf"(?<![\w:]){re.escape(phrase)}(?![\w:])", text) is not None


@given(SOME_DOMAIN, SEEDS, st.integers(0, 20), st.integers(0, 20))
@settings(deadline=None, max_examples=40)
def test_the_same_seed_gives_the_same_examples_however_many_are_asked_for(domain, seed, few, more):
    longer = examples(domain, few + more, seed)
    assert examples(domain, few, seed) == longer[:few]
    assert split(domain, few, more, seed) == split(domain, few, more, seed)


@given(SOME_DOMAIN, SEEDS)
@settings(deadline=None, max_examples=30)
def test_another_seed_gives_other_examples(domain, seed):
    assert examples(domain, 20, seed) != examples(domain, 20, seed + 1)


@given(SOME_DOMAIN, SEEDS, SEEDS)
@settings(deadline=None, max_examples=30)
def test_no_meaning_is_in_both_splits_whatever_their_seeds(domain, seed, other_seed):
    train, _ = split(domain, 300, 0, seed)
    _, test = split(domain, 0, 100, other_seed)
    assert (len(train), len(test)) == (300, 100)
    assert not {example.mr for example in train} & {example.mr for example in test}


@given(SOME_DOMAIN, SEEDS, st.integers(0, 30))
@settings(deadline=None, max_examples=20)
def test_neither_split_depends_on_the_length_of_the_other(domain, seed, count):
    train, test = split(domain, 20, 10, seed)
    assert split(domain, 20, count, seed)[0] == train
    assert split(domain, count, 10, seed)[1] == test


def every_value_of_the_meaning_is_told(example):
    for slot, value in example.slots.items():
        told = wordings(example.domain, slot, value)
        assert any(stands_in(one.lower(), example.text.lower()) for one in told), slot


def nothing_is_told_that_is_not_in_the_meaning(example):
    rest = example.text
    true = {told for slot, value in example.slots.items() for told in wordings(example.domain, slot, value)}
    for told in sorted(true, key=len, reverse=True):
        rest = re.sub(re.escape(told), "*", rest, flags=re.IGNORECASE)
    for slot in lexicon(example.domain).slots.values():
        for told in (phrase for phrases in slot.values.values() for phrase in phrases):
            # a negated verb holds the bare form of the plain one, so phrases with a verb are left aside
            assert "[" in told or not stands_in(told, rest), told


def a_text_is_one_to_three_finished_sentences(example):
    found = sentences(example.text)
    assert 1 <= len(found) <= 3
    for sentence in found:
        assert re.fullmatch(r"[A-Z][^.{}\[\]|()]*[^ ,]\.", sentence)
        assert "  " not in sentence
        assert " ," not in sentence


def an_stands_before_a_vowel_sound_and_a_before_the_rest(example):
    for written, following in re.findall(r"\b([Aa]n?) (\S+)", example.text):
        assert (written.lower() == "an") == bool(VOWEL_SOUNDS.match(following))


def a_meaning_representation_reads_back_as_its_slots(example):
    assert dict(pair.split(" : ") for pair in example.mr.split(" | ")) == example.slots
    assert "\n" not in example.mr + example.text


def the_label_is_the_value_of_the_domains_label_slot(example):
    assert example.label == example.slots[lexicon(example.domain).label]


CHECKS = (
    every_value_of_the_meaning_is_told,
    nothing_is_told_that_is_not_in_the_meaning,
    a_text_is_one_to_three_finished_sentences,
    an_stands_before_a_vowel_sound_and_a_before_the_rest,
    a_meaning_representation_reads_back_as_its_slots,
    the_label_is_the_value_of_the_domains_label_slot,
)


@given(SOME_DOMAIN, SEEDS)
@settings(deadline=None, max_examples=60)
def test_an_example_is_right_whatever_its_domain_and_seed(domain, seed):
    for example in examples(domain, 10, seed):
        assert example.domain == domain
        for check in CHECKS:
            check(example)


@given(SEEDS)
@settings(deadline=None, max_examples=60)
def test_a_dish_in_the_plural_takes_plural_verbs(seed):
    singular = r"is|has|takes|serves|feeds|tastes|contains|suits"
    for example in examples("recipe", 20, seed):
        name = example.slots["name"]
        if name.endswith(("Noodles", "Cakes")):
            assert not re.search(rf"{name}(, which)? ({singular})\b|\bIt\b", example.text), example
        else:
            assert not re.search(
                rf"{name}(, which)? (are|have|take|serve|feed|taste|contain|suit)\b|\bThey\b", example.text
            )


def num_meanings(domain):
    """Return how many different meaning representations a domain has."""
    known = lexicon(domain)
    sizes = {name: len(slot.values) for name, slot in known.slots.items()}
    always = prod(sizes[name] for name in {*known.subject, known.label})
    return always * sum(
        prod(sizes[name] for name in told)
        for count in sorted(set(known.num_optional))
        for told in combinations(known.optional, count)
    )


def test_the_smallest_domain_has_as_many_meanings_as_its_slots_allow():
    assert min(map(num_meanings, DOMAINS)) == 66_240


@pytest.mark.parametrize("domain", DOMAINS)
def test_two_thousand_examples_have_all_labels_and_hardly_repeat_a_meaning_but_in_other_words(domain):
    assert num_meanings(domain) > 20_000
    known, drawn = lexicon(domain), examples(domain, 2000, seed=4)
    labels = [example.label for example in drawn]
    shares = [labels.count(value) / 2000 for value in known.slots[known.label].values]
    assert len(shares) >= 3
    assert min(shares) > 0.7 / len(shares)
    assert len({example.mr for example in drawn[:1000]}) > 900
    assert len({example.text for example in drawn[:1000]}) > 900
    told: dict[str, set[str]] = {}
    for example in drawn:
        told.setdefault(example.mr, set()).add(example.text)
    assert any(len(texts) > 1 for texts in told.values())


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_frame_names_its_subject_and_every_other_slot_can_be_told_later(domain):
    known = lexicon(domain)
    extra = {"np", "short", "bare", "front", "which", "vps"}
    for frame in known.frames:
        fields = set(FIELDS.findall(frame))
        told_by_noun = {
            field for noun in known.nouns for field in FIELDS.findall(noun) if {"np", "short"} & fields
        }
        assert set(known.subject) <= fields | told_by_noun, frame
        assert fields <= extra | set(known.subject), frame
    assert all("{vps}" in sentence for sentence in known.later)
    assert all(slot.verb for name, slot in known.slots.items() if name not in known.subject)


def test_the_held_out_domain_is_the_last():
    assert DOMAINS[-1] == HELD_OUT
    assert len(DOMAINS) == len(set(DOMAINS)) >= 8


def test_no_two_domains_tell_the_same_text():
    texts = [example.text for domain in DOMAINS for example in examples(domain, 300, seed=7)]
    assert len(set(texts)) > 0.95 * len(texts)


def test_an_example_is_frozen():
    example = examples("film", 1, seed=1)[0]
    assert isinstance(example, Example)
    with pytest.raises(AttributeError):
        example.text = ""


def test_an_unknown_domain_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no domain 'restaurants'; known: restaurant, hotel"):
        examples("restaurants", 1, seed=1)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        examples("film", -1, seed=1)
    with pytest.raises(ValueError, match="must not be negative, got 3 and -1"):
        split("film", 3, -1, seed=1)


@pytest.mark.parametrize(
    ("word", "expected"), [("8-hour", "an"), ("81", "an"), ("18", "an"), ("180", "a"), ("1", "a")]
)
def test_numbers_take_the_article_of_their_sound(word, expected):
    assert article(word) == expected
