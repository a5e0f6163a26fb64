"""Layouts: what is in a box is put there and found there, and nothing of it is elsewhere."""

from __future__ import annotations

import torch

from zoo.networks.layouts import LayoutPainter, cropped, placed

BOX = torch.tensor([[[0.25, 0.5, 0.75, 1.0]]])  # left, top, right, bottom


def test_a_mask_is_in_its_box_and_nowhere_else() -> None:
    found = placed(torch.ones(1, 1, 16, 16), BOX, 32)[0, 0]
    inside = torch.zeros(32, 32)
    inside[16:, 8:24] = 1.0
    assert torch.equal(found, inside)


def test_a_box_of_the_size_of_its_mask_has_it_to_the_bit() -> None:
    mask = torch.rand(1, 1, 16, 16)
    assert torch.allclose(placed(mask, BOX, 32)[0, 0, 16:, 8:24], mask[0, 0], atol=1e-6)


def test_a_crop_is_what_is_in_the_box() -> None:
    pixels = torch.rand(1, 3, 32, 32)
    assert torch.allclose(cropped(pixels, BOX, 16)[0, 0], pixels[0, :, 16:, 8:24], atol=1e-5)
    assert cropped(pixels, BOX, 24).shape == (1, 1, 3, 24, 24)


def test_shares_of_boxes_add_up_to_one_and_no_box_has_none() -> None:
    painter = LayoutPainter(32, 3, (16, 8), classes=4, latent=5, style=8)
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.1, 0.1, 0.6, 0.6], [0.0, 0.0, 0.0, 0.0]]])
    masks = torch.rand(1, 4, 16, 16)
    masks[:, 3] = 0.0
    found = painter.there(masks, boxes, 32)
    assert torch.allclose(found.sum(dim=1), torch.ones(1, 32, 32), atol=1e-6)
    assert (found >= -1e-6).all()
    assert not found[:, 3].any()
    assert painter(torch.randn(1, 4, 5), boxes, torch.tensor([[0, 1, 2, 4]])).shape == (1, 3, 32, 32)
