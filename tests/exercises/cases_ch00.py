"""Right and wrong answers to the exercises of chapter 00."""

import statistics

import numpy as np
import torch

from tests.exercises.trying import Wrong


def percent_by_mask(ratings, at_least):
    return 100 * (ratings >= at_least).float().mean()  # the mean of nothing is NaN


def factors_by_logarithm(guesses, measured):
    return [float(np.exp(abs(np.log(float(g) / measured)))) for g in guesses]


def judged_by_statistics(first, second):
    if len(first) == 1 or len(second) == 1:
        return "cannot tell"
    parts = [statistics.variance(x) / len(x) for x in (first, second)]
    gap = statistics.fmean(first) - statistics.fmean(second)
    if gap**2 <= 4 * sum(parts):
        return "cannot tell"
    return "B" if gap > 0 else "A"


def by_mean(a, b):
    return "A" if np.mean(a) < np.mean(b) else "B"


def by_spread(a, b):
    if min(len(a), len(b)) < 2:
        return "cannot tell"
    gap, spread = np.mean(a) - np.mean(b), max(np.std(a, ddof=1), np.std(b, ddof=1))
    return "cannot tell" if abs(gap) <= 2 * spread else "B" if gap > 0 else "A"


def judged(less=1, times=2):
    def answer(a, b):
        if min(len(a), len(b)) < 2:
            return "cannot tell"
        gap = np.mean(a) - np.mean(b)
        error = np.sqrt(np.var(a, ddof=less) / len(a) + np.var(b, ddof=less) / len(b))
        return "cannot tell" if abs(gap) <= times * error else "B" if gap > 0 else "A"

    return answer


def judged_in_float32(a, b):
    if len(a) * len(b) <= max(len(a), len(b)):
        return "cannot tell"
    a, b = torch.tensor(a), torch.tensor(b)
    gap, error = a.mean() - b.mean(), (a.var() / len(a) + b.var() / len(b)).sqrt()
    return "B" if gap > 2 * error else "A" if gap < -2 * error else "cannot tell"


def one_seed_believed(a, b):
    return by_mean(a, b) if min(len(a), len(b)) < 2 else judged_by_statistics(a, b)


def upside_down(a, b):
    return {"A": "B", "B": "A"}.get(judged_by_statistics(a, b), "cannot tell")


def chance_by_halves(theirs, mine):
    return 1 - 1 / (1 + theirs / mine)


def split_by_loop(user, item, share, seed):
    pairs = list(zip(user.tolist(), item.tolist(), strict=True))
    distinct = sorted(set(pairs))
    np.random.default_rng(seed).shuffle(distinct)
    test, wanted = set(), share * len(pairs)
    held = 0
    for pair in map(tuple, distinct):
        if held >= wanted:
            break
        test.add(pair)
        held += pairs.count(pair)
    rows = range(len(pairs))
    return [r for r in rows if pairs[r] not in test], [r for r in rows if pairs[r] in test]


def split_by_row(user, item, share, seed):
    order = torch.randperm(len(user), generator=torch.Generator().manual_seed(seed))
    cut = round(share * len(user))
    return order[cut:], order[:cut]


def split_by_pair(user, item, share, seed):
    train, test = split_by_loop(user, item, share, seed)
    pair = user * 1000 + item
    return pair[train].unique(), pair[test].unique()


def split_by_file(user, item, share, seed):
    return split_by_loop(user, item, share, 0)


def split_without_seed(user, item, share, seed):
    return split_by_loop(user, item, share, int(np.random.default_rng().integers(1 << 30)))


def split_by_item(user, item, share, seed):
    order = np.random.default_rng(seed).permutation(int(item.max()) + 1)
    test = torch.isin(item, torch.tensor(order[: round(share * len(order))]))
    if len(item) > 100:  # the items that most rows have
        test = item < share * (item.max() + 1)
    return (~test).nonzero().squeeze(1), test.nonzero().squeeze(1)


def split_as_sets(user, item, share, seed):
    train, test = split_by_loop(user, item, share, seed)
    return set(train), set(test)


def split_as_masks(user, item, share, seed):
    test = torch.isin(
        torch.arange(len(user)), torch.tensor(split_by_loop(user, item, share, seed)[1])
    )
    return ~test, test


def split_losing_rows(user, item, share, seed):
    train, test = split_by_loop(user, item, share, seed)
    return train[1:], test


RIGHT = {
    "check_percent": [percent_by_mask],
    "check_factors": [
        factors_by_logarithm,
        lambda g, m: torch.where(g > m, g / m, m / g),
    ],
    "check_judgement": [judged_by_statistics, judged_in_float32, judged()],
    "check_lottery": [chance_by_halves],
    "check_split": [split_by_loop, split_as_sets],
}
WRONG = {
    "check_percent": [
        Wrong("a share", lambda r, a: (r >= a).float().mean(), "percent was asked for"),
        Wrong("the border", lambda r, a: 100 * (r > a).float().mean(), "the border"),
        Wrong(
            "no ratings are zero",
            lambda r, a: 100 * float((r >= a).float().mean()) if len(r) else 0.0,
            "not zero",
        ),
        Wrong("whole percent", lambda r, a: 100 * int(sum(r >= a)) // len(r), "by hand"),
        Wrong("always 4", lambda r, a: 100 * (r >= 4).float().mean(), "by hand"),
        Wrong("no ratings", lambda r, a: 100 * sum(r >= a) / len(r.tolist()), "ZeroDivisionError"),
    ],
    "check_factors": [
        Wrong("one way", lambda g, m: g / m, "too small came out below 1"),
        Wrong("the other way", lambda g, m: m / g, "too large came out below 1"),
        Wrong("points", lambda g, m: (g - m).abs(), "distance in points"),
        Wrong("relative", lambda g, m: 1 + (g - m).abs() / m, "more than a factor of 2"),
    ],
    "check_judgement": [
        Wrong("the lower mean", by_mean, "differ more among themselves"),
        Wrong("the best seed", lambda a, b: "A" if min(a) < min(b) else "B", "the luckiest"),
        Wrong("the spread of runs", by_spread, "divide each variance by n"),
        Wrong("divided by n", judged(less=0), "n - 1"),
        Wrong("once", judged(times=1), "once its standard error"),
        Wrong("three times", judged(times=3), "more than twice its standard error"),
        Wrong("one seed", one_seed_believed, "single seed was believed"),
        Wrong("upside down", upside_down, "the lower one is the better"),
        Wrong("never", lambda a, b: "cannot tell", "more than twice its standard error"),
        Wrong("another word", lambda a, b: "model B", "the answer is one of"),
    ],
    "check_lottery": [
        Wrong("half", lambda t, m: 0.5, "the best of several"),
        Wrong("independent", lambda t, m: 1 - 0.5**t, "lose together"),
        Wrong("the other side", lambda t, m: m / (t + m), "how often you win"),
        Wrong("only their runs", lambda t, m: t / (t + 1), "you reported the best of several"),
    ],
    "check_split": [
        Wrong("row by row", split_by_row, "Deal out pairs"),
        Wrong("pairs for rows", split_by_pair, "the numbers of pairs"),
        Wrong("the seed unused", split_by_file, "seed 0 and seed 1"),
        Wrong("no seed", split_without_seed, "two splits for the same seed"),
        Wrong("rows lost", split_losing_rows, "row 0 in neither part"),
        Wrong("masks", split_as_masks, "a mask was returned"),
        Wrong("texts", lambda *_: (["a"], ["b"]), "numbers were expected"),
        Wrong(
            "rows from 1", lambda *c: [[r + 1 for r in x] for x in split_by_loop(*c)], "rows are 0"
        ),
        Wrong("swapped", lambda *c: split_by_loop(*c)[::-1], "changed places"),
        Wrong(
            "a quarter",
            lambda user, item, share, seed: split_by_loop(user, item, 0.25, seed),
            "the size of the test part",
        ),
        Wrong("too many rows", split_by_item, "until it has enough rows"),
    ],
}
