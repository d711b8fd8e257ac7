"""Trains the paper's NFM, or a plain FM, on Frappe and writes the checkpoint with its test scores.

    python frappe.py --data DIR --out OUT [--model nfm|fm] [--epochs N] [--seed N]

DIR holds three libFM files (`label id:1 ...`, ten ids a row, labels 1 and -1), gzipped or not:
`frappe.train.reconstructed.libfm` (or `frappe.train.libfm`), `frappe.validation.libfm`, `frappe.test.libfm`.
Frappe is for research only and may not be redistributed: neither the data nor a model trained on it is part of this
repository; fetch it yourself.

The settings are the original's README command: dim 64, one hidden layer of 64, relu, batch norm, square loss,
Adagrad with learning rate 0.05 from an accumulator of 1e-8, keep_prob [0.8, 0.5]. The last entry of keep_prob is the
Bi-Interaction's, so dropout is 0.5 on z and 0.2 on the hidden layer.

OUT receives, each time the validation RMSE improves:

    frappe-<model>.pt                   {"state_dict": ..., "config": ...}
    frappe-<model>.test.expected.csv    header `raw`, then one float64 eval score a test row, in the file's order
    frappe-<model>.log                  one line an epoch
"""

import argparse
import copy
import gzip
import os
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from paper_nfm import BN_EPS, PaperNFM

DIM = 64
LEARNING_RATE = 0.05
INITIAL_ACCUMULATOR = 1e-8
PATIENCE = 25

# model: constructor options
MODELS = {
    "nfm": {"hidden": (64,), "batch_norm": True, "dropout_z": 0.5, "dropout_hidden": 0.2},
    "fm": {"hidden": (), "batch_norm": False, "dropout_z": 0.3},
}


def read_libfm(directory, *stems):
    """Gives (ids [rows, 10], labels [rows]) of the first file that exists among `stems`, plain or gzipped."""
    candidates = [Path(directory) / (stem + end) for stem in stems for end in ("", ".gz")]
    path = next((p for p in candidates if p.exists()), None)
    if path is None:
        raise SystemExit(f"{directory}: none of {', '.join(p.name for p in candidates)} is there")
    labels, ids = [], []
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
        for line in lines:
            label, *pairs = line.split()
            labels.append(float(label))
            ids.append([int(pair.partition(":")[0]) for pair in pairs])
    return torch.tensor(ids), torch.tensor(labels)


@torch.no_grad()
def scores(model, ids, batch=8192):
    model.eval()
    return torch.cat([model(part) for part in ids.split(batch)])


def rmse(raw, labels):
    """As the original reports it: scores clipped to the range of the labels."""
    return (raw.clamp(-1.0, 1.0) - labels).square().mean().sqrt().item()


def replace_atomically(path, write):
    """Readers of a running training see the previous file or the next one, never half of one."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def save(model, epoch, out, name, test_ids):
    checkpoint = {
        "state_dict": model.state_dict(),
        "config": {"bn_eps": BN_EPS, "activation": "relu", "task": "regression", "epoch": epoch},
    }
    replace_atomically(out / f"{name}.pt", lambda path: torch.save(checkpoint, path))

    raw = scores(copy.deepcopy(model).double(), test_ids).tolist()
    text = "raw\n" + "".join(f"{score!r}\n" for score in raw)
    replace_atomically(out / f"{name}.test.expected.csv", lambda path: path.write_text(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--model", choices=MODELS, default="nfm")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=LEARNING_RATE)
    parser.add_argument("--dropout-z", type=float, help="default: the model's own")
    parser.add_argument("--minutes", type=float, default=20, help="stop after this much training time")
    parser.add_argument("--seed", type=int, default=2017)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    name = f"frappe-{args.model}"

    train_ids, train_labels = read_libfm(args.data, "frappe.train.libfm", "frappe.train.reconstructed.libfm")
    valid_ids, valid_labels = read_libfm(args.data, "frappe.validation.libfm")
    test_ids, test_labels = read_libfm(args.data, "frappe.test.libfm")
    rows = 1 + max(int(ids.max()) for ids in (train_ids, valid_ids, test_ids))

    options = dict(MODELS[args.model])
    if args.dropout_z is not None:
        options["dropout_z"] = args.dropout_z
    model = PaperNFM(rows, DIM, **options)
    optimizer = torch.optim.Adagrad(
        model.parameters(), lr=args.lr, initial_accumulator_value=INITIAL_ACCUMULATOR, fused=True
    )

    with open(args.out / f"{name}.log", "w", buffering=1) as log:

        def say(line):
            print(line, flush=True)
            log.write(line + "\n")

        say(f"torch {torch.__version__}  {args.model} {options}  batch {args.batch}  lr {args.lr}  seed {args.seed}")
        say(f"train {len(train_ids)}  validation {len(valid_ids)}  test {len(test_ids)}  rows {rows}  dim {DIM}")
        best, best_epoch, started = float("inf"), 0, time.monotonic()
        for epoch in range(1, args.epochs + 1):
            model.train()
            total = 0.0
            order = torch.randperm(len(train_ids))
            for part in order.split(args.batch):
                loss = F.mse_loss(model(train_ids[part]), train_labels[part])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(part)
            valid = rmse(scores(model, valid_ids), valid_labels)
            note = ""
            if valid < best:
                best, best_epoch = valid, epoch
                save(model, epoch, args.out, name, test_ids)
                test = rmse(scores(model, test_ids), test_labels)
                note = f"  best so far, test rmse {test:.4f}"
            spent = time.monotonic() - started
            train_mse = total / len(train_ids)
            say(f"epoch {epoch:3}  train mse {train_mse:.4f}  validation rmse {valid:.4f}  {spent:5.0f} s{note}")
            if epoch - best_epoch >= PATIENCE or spent > 60 * args.minutes:
                break
        say(f"kept epoch {best_epoch}: validation rmse {best:.4f}, test rmse {test:.4f}")


if __name__ == "__main__":
    main()
