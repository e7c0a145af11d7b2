"""A factorization machine recovered inside a DLRM, weight by weight.

A DLRM has no weight of its own for an id: everything goes through dot products. The FM's linear
weights therefore ride in extra places of the vectors. Field i gets a *slot* behind the d numbers
of its FM vector and keeps its weight there, with zeros in the other slots; the dense vector has
ones in all slots and zeros before them. Then <dense, e_i> = w_i and <e_i, e_j> = <v_i, v_j>, and a
top MLP that is one linear layer of ones adds them up. The price: F fields need width d + F.

The obvious saving, one slot for all (width d + 1), is another model: both vectors of a pair then
have their weight in the same place, and each pair adds w_i w_j that no FM has.
"""

import torch
from torch import nn

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine


@torch.no_grad()
def dlrm_from_fm(fm: FactorizationMachine, *, shared_slot: bool = False) -> DLRM:
    """The DLRM that gives the same outputs as a factorization machine of one-hot fields.

    It is equal where every field has one id a row, whatever its weight: what the ids of one bag do
    to each other inside an FM has no place in a DLRM. The DLRM wants one dense column and ignores
    what is in it.

    Args:
        fm: a factorization machine of F fields without dense columns.
        shared_slot: the tempting width d + 1 instead of d + F, which is *not* equal: for each pair
            of fields it adds the product of the two linear weights.

    Raises:
        UserError: the machine has dense columns. Their products with each other have no place in a
            DLRM, which makes one vector of all of them.
    """
    if fm.n_dense:
        raise UserError(
            f"The factorization machine has {fm.n_dense} dense columns, whose products with each "
            "other a DLRM cannot express; expected one with n_dense=0. Leave the columns out, or "
            "cut them into ids."
        )
    tables, d = fm.vectors.cardinalities, fm.vectors.dim
    slots = [d if shared_slot else d + field for field in range(len(tables))]
    width = slots[-1] + 1
    dlrm = DLRM(DLRMConfig(1, tables, width, bottom=(width,), top=(1,)), check=fm.vectors.check)
    dlrm = dlrm.to(fm.bias)  # its dtype and device
    for parameter in dlrm.parameters():
        parameter.zero_()
    for slot, name in zip(slots, tables, strict=True):
        dlrm.tables.tables[name][:, :d] = fm.vectors.tables[name]  # (N_t, d)
        dlrm.tables.tables[name][:, slot] = fm.linear.tables[name].squeeze(1)  # (N_t,)
    bottom, top = dlrm.bottom[0], dlrm.top[0]
    assert isinstance(bottom, nn.Linear) and isinstance(top, nn.Linear)
    bottom.bias[d:] = 1.0  # a constant, which the ReLU lets through
    top.weight[:, width:] = 1.0  # behind the dense vector: every pair counts once
    top.bias.copy_(fm.bias)
    return dlrm
