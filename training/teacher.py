"""U²-Net-P as a whole: the network the student starts from and the teacher of its real photographs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serve_app.birefnet.u2netp import U2NetP, pooled_block, resize_like

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
TEACHER_SIZE = 320


class Teacher(U2NetP):
    """The backbone with the last decoder stage, the side outputs and their fusion."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1d = pooled_block(7, 128)
        for level in range(1, 7):
            self.add_module(f"side{level}", nn.Conv2d(64, 1, 3, padding=1))
        self.outconv = nn.Conv2d(6, 1, 1)

    def saliency(self, x: Tensor) -> Tensor:
        """Logits at the size of the input."""
        e1, d2, d3, d4, d5, e6 = self.pyramid(x)
        d1: Tensor = self.stage1d(torch.cat((resize_like(d2, e1), e1), dim=1))
        maps = [self.get_submodule(f"side{i}")(m) for i, m in enumerate((d1, d2, d3, d4, d5, e6), start=1)]
        fused: Tensor = self.outconv(torch.cat([resize_like(m, x) for m in maps], dim=1))
        return fused


def load_teacher(state: dict[str, Tensor]) -> Teacher:
    teacher = Teacher()
    teacher.load_state_dict(state)
    return teacher.eval().requires_grad_(False)


@torch.inference_mode()
def pseudo_label(teacher: Teacher, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mattes of RGB images in 0..1 at their own size, and how far the plain and the mirrored view disagree."""
    small = F.interpolate(images, size=(TEACHER_SIZE, TEACHER_SIZE), mode="bilinear", antialias=True)
    small = (small / small.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3) - MEAN) / STD
    views = torch.cat((small, small.flip(-1)))
    plain, mirrored = teacher.saliency(views).sigmoid().chunk(2)
    mirrored = mirrored.flip(-1)
    matte = F.interpolate((plain + mirrored) / 2, size=images.shape[-2:], mode="bilinear", antialias=True)
    return matte, (plain - mirrored).abs().mean(dim=(1, 2, 3))
