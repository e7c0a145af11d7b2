"""How each claim is put on trial: what is done, and which recorded numbers decide.

Words only; the numbers are `ledger`'s, which reads them from what the chapters recorded.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["measured", "counted", "modelled"]


@dataclass(frozen=True)
class Number:
    """A result that a claim is judged by.

    Attributes:
        name: under which the chapter recorded it (`claims.record`).
        words: what it is, for the reader.
        form: how it is written, as in a format specification.
        kind: measured by running something, counted from shapes or data, or modelled.
    """

    name: str
    words: str
    form: str = ".4f"
    kind: Kind = "measured"


@dataclass(frozen=True)
class Experiment:
    """How a claim is put on trial.

    Attributes:
        words: what is done, with what.
        numbers: what comes out; the first is the one for a summary.
        record: the recorded measurement it rests on, or "" where the chapter itself runs it.
    """

    words: str
    numbers: tuple[Number, ...]
    record: str = ""


EXPERIMENTS: dict[str, Experiment] = {
    "long-tail": Experiment(
        "movies of MovieLens 100K in the order of their number of ratings",
        (
            Number("data.top100_share", "of ratings go to the top 100 of 1,682", ".0%", "counted"),
            Number("data.top_fifth_share", "go to the top fifth", ".0%", "counted"),
        ),
    ),
    "biases-first": Experiment(
        "a constant, then one number per user and per movie, five canonical folds",
        (
            Number("ratings.biases.share_of_reachable", "of what the best program removes", ".0%"),
            Number("ratings.constant.rmse", "stars off with a constant"),
            Number("ratings.biases.rmse", "stars off with biases"),
        ),
    ),
    "embedding": Experiment(
        "a one-hot product, a row lookup and nn.Embedding on the same ids",
        (Number("embedding.differing", "numbers differ between the three", ".0f"),),
    ),
    "factors": Experiment(
        "biases against biases and vectors, five canonical folds",
        (
            Number("ratings.mf.rmse", "stars off with vectors"),
            Number("ratings.biases.rmse", "with biases alone"),
        ),
        "ratings_ladder",
    ),
    "fm": Experiment(
        "matrix factorization, then any features in pairs, five canonical folds",
        (
            Number("ratings.fm.rmse", "stars off with features"),
            Number("ratings.mf.rmse", "with two ids"),
            Number("ratings.fm_bayes.rmse", "averaged over the posterior"),
        ),
        "ratings_ladder",
    ),
    "mlp": Experiment(
        "an MLP learns a dot product from examples, exact and as noisy as ratings",
        (
            Number("mlp.dot.noisy", "of a dot product missed, noisy examples", ".0%"),
            Number("mlp.dot.live", "missed, exact ones, in a minute", ".1%"),
        ),
        "dot_product",
    ),
    "dlrm": Experiment(
        "DLRM against FM and MLP, clicks of MovieLens, each searched alike",
        (
            Number("clicks.dlrm.random.auc", "AUC of DLRM, random split"),
            Number("clicks.fm.random.auc", "of FM"),
            Number("clicks.mlp.random.auc", "of the MLP"),
        ),
        "clicks_ladder",
    ),
    "dimensionality": Experiment(
        "what the top MLP reads, counted for 27 vectors of three widths",
        (
            Number("dlrm.input_saved.d_16", "fewer inputs at D = 16", ".0%", "counted"),
            Number("dlrm.input_saved.d_128", "fewer at D = 128", ".0%", "counted"),
            Number("dlrm.input_saved.d_4", "at D = 4 (more, where negative)", ".0%", "counted"),
        ),
    ),
    "parameters": Experiment(
        "parameters of five published configurations, counted",
        (
            Number("dlrm.kaggle.embedding_share", "of Kaggle's are in tables", ".1%", "counted"),
            Number("dlrm.largest_table_gb", "GB in the largest table of all", ".2f", "counted"),
        ),
    ),
    "orders": Experiment(
        "a generated log with planted pairs and triples, its optimum known, five seeds",
        (
            Number("interactions.third_order.lead", "more of the gap with a third order", ".0%"),
            Number("interactions.dot_mlp.share", "of the gap closed by dot + MLP", ".0%"),
            Number("interactions.third.share", "by a third order", ".0%"),
        ),
        "interactions",
    ),
    "sparse-equal": Experiment(
        "30 steps with the dense and with the sparse rule of five optimizers",
        (
            Number("sparse.rules_equal", "optimizers end at the same weights", ".0f"),
            Number("sparse.rules_tried", "were tried", ".0f"),
        ),
    ),
    "row-wise": Experiment(
        "Adagrad with a number a weight and a number a row, each at its best rate, five seeds",
        (
            Number("sparse.rowwise.log", "NE lost on a log with planted pairs", ".3f"),
            Number("sparse.rowwise.movielens", "lost on MovieLens", ".4f"),
            Number("sparse.rowwise_state_share", "of the state", ".1%", "counted"),
        ),
        "sparse_training",
    ),
    "quotient-remainder": Experiment(
        "quotient and remainder against hashing at equal bytes, three seeds",
        (
            Number("smaller.qr.sixteenth", "NE at a sixteenth of the bytes"),
            Number("smaller.hash.sixteenth", "hashed"),
        ),
        "smaller_tables",
    ),
    "four-bits": Experiment(
        "trained tables rounded row by row to four bits, three seeds",
        (Number("smaller.int4.ne_cost", "NE lost"),),
        "smaller_tables",
    ),
    "time-cpu": Experiment(
        "a step of five published models taken apart, sparse and fused tables",
        (
            Number("time.profile.sparse.fully_connected", "of the profile's step: layers", ".0%"),
            Number("time.update_over_lookups.sparse", "times the lookups: the update", ".1f"),
        ),
        "steps_cpu_intel_xeon_processor",
    ),
    "time-gpu": Experiment(
        "the same steps on a GPU: predicted from quoted peaks until one is recorded",
        (
            Number("gpu.predicted.h100_fused.share", "of an H100's step", ".0%", "modelled"),
            Number("gpu.predicted.v100_fused.share", "of a V100's", ".0%", "modelled"),
        ),
    ),
    "replication": Experiment(
        "bytes held and bytes sent, copied and split, counted for published models",
        (
            Number("split.terabyte.tables_gb", "GB of tables (terabyte model)", ".1f", "counted"),
            Number("split.kaggle.tables_gb", "GB (Kaggle)", ".2f", "counted"),
            Number("split.terabyte.times_on_128", "times the bytes on 128 ranks", ".0f", "counted"),
        ),
    ),
    "all-to-all": Experiment(
        "a cost model fitted and checked on real processes, over links, ranks and models",
        (
            Number("cost.share.eight_100g", "of a step on 8 ranks, 100 Gbit/s", ".0%", "modelled"),
            Number("cost.most.all_to_all", "of cases reach half by 128 ranks", ".0%", "modelled"),
        ),
    ),
}  # fmt: skip
