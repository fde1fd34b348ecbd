"""The plan of the chunks, in integers: nothing is left out or read twice."""

import pytest

from keras_attention.ops.attention import chunk_plan
from keras_attention.ops.attention.chunk_plan import plan_chunks


@pytest.mark.parametrize("queries, keys", [(1, 1), (7, 7), (23, 23), (5, 29)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("reach", [None, 1, 3, 17, 40])
def test_every_query_reads_the_keys_that_it_attends_to(
    queries, keys, causal, reach, monkeypatch
):
    monkeypatch.setattr(chunk_plan, "QUERIES_PER_CHUNK", (4, 4))
    monkeypatch.setattr(chunk_plan, "CAUSAL_GROUPS", 3)
    plan = plan_chunks(queries, keys, 1, causal, reach)
    assert plan.count * plan.chunk >= queries > (plan.count - 1) * plan.chunk
    for query in range(queries):
        index = query // plan.chunk
        group = index * plan.groups // plan.count
        first = plan.first_read(index)
        read = range(first, first + plan.num_keys_of(group))
        place = query + plan.shift
        for key in range(keys):
            attends = (not causal or key <= place) and (
                reach is None or abs(key - place) < reach
            )
            assert key in read or not attends, (query, key)
        if plan.pieces is None:
            assert plan.num_unmasked(group) <= max(place + 1, 0)


def test_a_window_reads_what_it_reaches():
    plan = plan_chunks(10_000, 10_000, causal=True, reach=256)
    assert (plan.chunk, plan.count, plan.pieces) == (256, 40, 2)
    assert plan.num_read == 512
    assert plan.first_read(3) == 2 * 256


def test_causal_chunks_read_half_of_the_keys():
    plan = plan_chunks(8192, 8192, causal=True)
    assert plan.groups == 8
    read = [plan.num_keys_of(group) for group in range(8)]
    assert read == [1024 * (group + 1) for group in range(8)]
    assert [plan.num_unmasked(group) for group in range(8)] == [
        1024 * group for group in range(8)
    ]


def test_nothing_to_attend():
    assert plan_chunks(0, 5).count == 1
    assert plan_chunks(0, 5).chunk == 1
    assert plan_chunks(5, 0).count == 1


@pytest.mark.parametrize("heads", [1, 4, 1000])
def test_heads_that_share_keys_are_rows_of_a_chunk(heads):
    plan = plan_chunks(4096, 4096, heads)
    assert 1 <= plan.chunk * heads <= max(heads, 1024)
