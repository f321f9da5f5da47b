"""Named entities in sequences of tags, and their F1, as conlleval and seqeval compute it.

The tests compare with seqeval's own functions. They would be one more dependency for ten lines, since Flair's tagger is
given the entities themselves, and their default mode misreads BILOU.
"""

import re
from collections.abc import Iterable, Sequence

_ENTITY_TAG = re.compile(r"[BIESLU]-.+")
_AS_IOBES = {"L": "E", "U": "S"}  # BILOU's last token and single token

Entity = tuple[str, int, int]
"""The type, and the numbers of the first and the last token."""


def are_entity_tags(tags: Iterable[str]) -> bool:
    """Whether these are tags of entities: `O`, and `B-LOC` or the like (IOB1, BIO, IOBES, BILOU)."""
    different = set(tags) - {"O"}
    return bool(different) and all(_ENTITY_TAG.fullmatch(tag) for tag in different)


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, as seqeval finds them in its default mode.

    A token continues the entity before it if it is an I or E of the same type after a B or I; any other token with a
    type begins an entity, also an I after O or after another type. (Deviation: BILOU's L and U are read as E and S,
    while seqeval's default mode takes them for parts of the entity before.)
    """
    entities: list[Entity] = []
    before, type_before = "O", ""
    for number, tag in enumerate(tags):
        place, kind = _AS_IOBES.get(tag[0], tag[0]), tag[2:]
        if place != "O":
            continues = place in "IE" and before in "BI" and kind == type_before
            entities.append((kind, entities.pop()[1] if continues else number, number))
        before, type_before = place, kind
    return entities


def entity_f1(truth: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    """The harmonic mean of precision and recall of all sentences' entities together; 0 where there are none.

    An entity is right if type, beginning and end are. This is `seqeval.metrics.f1_score(truth, found)`.

    Args:
        truth, found: the tags of each sentence.
    """
    right = total = 0
    for true_tags, tags in zip(truth, found, strict=True):
        true_entities, entities = set(entities_of(true_tags)), set(entities_of(tags))
        right += len(true_entities & entities)
        total += len(true_entities) + len(entities)
    return 2 * right / total if total else 0.0
