"""The Neural Factorization Machine of He & Chua (SIGIR 2017), in PyTorch.

    y(x) = w0 + sum_i w_i x_i + p . h_L(... h_1(bn(z)))
    z    = 1/2 [ (sum_i x_i v_i)^2 - sum_i (x_i v_i)^2 ]            (the Bi-Interaction)

Modules and tensors are named as in the public PyTorch port (guoyang9/NFM-pyTorch), so that a checkpoint of either
one reads the same:

    embeddings.weight [rows, dim]   biases.weight [rows, 1]   bias_ [1]
    FM_layers   = BatchNorm1d(z), Dropout
    deep_layers = (Linear, BatchNorm1d, activation, Dropout) per hidden layer; batch norm stands BEFORE the activation
    prediction.weight [1, last hidden]                      no bias

With `batch_norm=False` the BatchNorm1d modules are absent and the indices move up. With `hidden=()` the model is a
plain factorization machine: `prediction` is absent and the lanes of z are summed.
"""

import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}

# The original code normalises with tf.contrib.layers.batch_norm(decay=0.9): epsilon 1e-3, and decay 0.9 is what
# PyTorch calls momentum 0.1.
BN_EPS = 1e-3
BN_MOMENTUM = 0.1


class PaperNFM(nn.Module):
    """Scores rows of (id, value) pairs; `hidden=()` gives the plain factorization machine."""

    def __init__(
        self,
        rows,
        dim,
        hidden=(64,),
        activation="relu",
        batch_norm=True,
        bn_eps=BN_EPS,
        dropout_z=0.0,
        dropout_hidden=0.0,
    ):
        super().__init__()
        self.embeddings = nn.Embedding(rows, dim)
        self.biases = nn.Embedding(rows, 1)
        self.bias_ = nn.Parameter(torch.zeros(1))

        z_modules = [nn.BatchNorm1d(dim, eps=bn_eps, momentum=BN_MOMENTUM)] if batch_norm else []
        self.FM_layers = nn.Sequential(*z_modules, nn.Dropout(dropout_z))

        deep_modules, width = [], dim
        for out in hidden:
            deep_modules.append(nn.Linear(width, out))
            if batch_norm:
                deep_modules.append(nn.BatchNorm1d(out, eps=bn_eps, momentum=BN_MOMENTUM))
            deep_modules += [ACTIVATIONS[activation](), nn.Dropout(dropout_hidden)]
            width = out
        self.deep_layers = nn.Sequential(*deep_modules)
        self.prediction = nn.Linear(width, 1, bias=False) if hidden else None
        self.reset_parameters()

    def reset_parameters(self):
        """The original's initialisation: N(0, 0.01) embeddings, zero first order, Glorot-normal layers."""
        nn.init.normal_(self.embeddings.weight, std=0.01)
        nn.init.zeros_(self.biases.weight)
        nn.init.zeros_(self.bias_)
        linears = [m for m in self.deep_layers if isinstance(m, nn.Linear)]
        for linear in linears + ([self.prediction] if self.prediction is not None else []):
            nn.init.xavier_normal_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, ids, values=None):
        """Gives the raw score [B] of `ids` [B, N]; `values` [B, N] default to 1.

        Rows with fewer than N active features are padded with any id and the value 0, which contributes nothing.
        """
        v = self.embeddings(ids)
        w = self.biases(ids).squeeze(-1)
        if values is not None:
            v = v * values.unsqueeze(-1)
            w = w * values
        z = 0.5 * (v.sum(dim=1).square() - v.square().sum(dim=1))
        h = self.deep_layers(self.FM_layers(z))
        second_order = h.sum(dim=1) if self.prediction is None else self.prediction(h).squeeze(-1)
        return self.bias_ + w.sum(dim=1) + second_order
