"""The host's own drafter: what it hangs in a tree, how it goes on, when it gives up."""

from p2p.drafting.tree import Tree
from verifier_host.messages import HOST
from verifier_host.scheduling.host_drafter import MOST_READ, HostDrafter

VOCABULARY = 10_000
PERIOD = list(range(100, 112))


def chain(tree: Tree) -> list[int]:
    """The tokens below the root, which must be one chain."""
    tokens, guess = [], tree.root
    while guess.children:
        ((token, guess),) = guess.children.items()
        tokens.append(token)
    return tokens


def test_what_followed_last_time_hangs_below_the_root_under_the_hosts_number() -> None:
    tree = Tree([*PERIOD, *PERIOD[:3]], VOCABULARY)

    HostDrafter().draft(tree)

    assert chain(tree) == PERIOD[3:11]
    assert tree.drafters == (HOST,)


def test_after_a_commit_only_the_end_of_the_chain_is_new() -> None:
    tree = Tree([*PERIOD, *PERIOD[:3]], VOCABULARY)
    drafter = HostDrafter()
    drafter.draft(tree)
    first = tree.root.children[PERIOD[3]].children[PERIOD[4]].children[PERIOD[5]]

    tree.commit(PERIOD[3:5], tree.arrivals)
    drafter.draft(tree)

    assert tree.root.children[PERIOD[5]] is first
    assert chain(tree) == [*PERIOD[5:], PERIOD[0]]
    assert tree.live(HOST) == tree.size == 8


def test_a_nodes_guess_of_the_same_token_is_the_same_guess() -> None:
    tree = Tree([*PERIOD, *PERIOD[:3]], VOCABULARY)
    tree.add(1, len(tree.text), 1, [0], [PERIOD[3]], [200])

    HostDrafter().draft(tree)

    assert list(tree.root.children[PERIOD[3]].names) == [1, HOST]
    assert tree.size == 8


def test_a_long_text_is_read_in_parts_and_drafted_once_it_is_read() -> None:
    tree = Tree([*range(MOST_READ), 3, 4, 5], VOCABULARY)
    drafter = HostDrafter()

    drafter.draft(tree)
    assert chain(tree) == []

    drafter.draft(tree)
    assert chain(tree) == [6, 7, 8, 9, 10, 11, 12, 13]


def test_the_longer_the_match_the_surer_the_guess() -> None:
    short = Tree([1, 2, 3, 4, 9, 1, 2, 3], VOCABULARY)
    long = Tree(PERIOD * 4, VOCABULARY)
    for tree in (short, long):
        HostDrafter().draft(tree)

    first, sure = short.root.children[4], long.root.children[100]
    assert first.names[HOST].score < first.children[9].names[HOST].score
    assert first.names[HOST].score < sure.names[HOST].score


def test_a_text_that_does_not_go_on_as_before_ends_it_and_takes_its_guesses_away() -> None:
    tree = Tree([1, 2, 3, 1000], VOCABULARY)
    drafter = HostDrafter()
    for new in range(1001, 1060):
        for token in (1, 2, 3, new):
            tree.commit([token], tree.arrivals)
            drafter.draft(tree)

    assert tree.size == 0
    assert tree.drafters == ()
