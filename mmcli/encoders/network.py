"""Encoders that are torch networks: precision, device, determinism, and the weights that every one of them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmcli.encoders.base import Encoded, Encoder, EncoderOptions, EncoderRequest, Maps, Size
from mmcli.errors import RequestError

Model = TypeVar("Model", bound=nn.Module)


class NetworkOptions(EncoderOptions):
    """Options of every encoder that is a network."""

    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Arithmetic of the forward pass; auto = bfloat16 on GPUs and on CPUs that have it in hardware "
        "(AVX512-BF16, AMX), else float32. The latents then depend on the machine, and the store records which.",
    )
    compile: bool = Field(
        False,
        description="Let torch.compile make the network's code, which takes about a minute and a C++ compiler and is "
        "worth it for many instances; latents agree to float tolerance.",
    )
    partial: bool = Field(False, description="Load the tensors that fit and leave the others at their seeded start.")


class NetworkEncoder(Encoder):
    """A network in evaluation mode on a device. A subclass turns pixels into its input by `prepare`."""

    model: nn.Module
    device: torch.device
    precision: str

    compiled: Callable[[Tensor], Tensor] | None = None

    def place(self, model: nn.Module, device: str, options: NetworkOptions) -> None:
        """Put the network where it runs, in the precision and, with `compile`, in the form that was asked for."""
        self.device = usable_device(device)
        self.precision = resolve_precision(options.precision, self.device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        if self.precision == "bfloat16":
            narrow_weights(self.model)
        self.compiled = torch.compile(self.model) if options.compile else None

    def arithmetic(self) -> torch.autocast:
        """Within it, the network computes in its precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def prepare(self, pixels: Tensor) -> Tensor:
        """Pixels as `encode` takes them, on the device, to the network's float32 input."""
        raise TypeError(f"{type(self).__name__} does not say how pixels become its network's input")

    def forward(self, batch: Tensor) -> Tensor:
        """The network's latents of a prepared batch."""
        if self.compiled is None:
            latents: Tensor = self.model(batch)
            return latents
        try:
            return self.compiled(batch)
        except Exception as error:
            from torch._dynamo.exc import TorchDynamoException  # takes two seconds to import

            if not isinstance(error, TorchDynamoException):
                raise
            line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise RequestError(f"--set compile=true: torch cannot compile encoder {self.name} here ({line})") from None

    def forward_stages(self, batch: Tensor, stages: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents, and the stages' maps (n, c, h, w) or (n, c, t, h, w), by one pass through the network."""
        raise TypeError(f"{type(self).__name__} has stages but no maps")

    def features(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        return self._begin(pixels, {})().latents

    def start(self, pixels: NDArray[Any], maps: Maps | None = None) -> Callable[[], Encoded]:
        self._check(pixels)
        self.check_stages(list(maps or ()))
        wait = self._begin(np.ascontiguousarray(pixels), maps or {})

        def finish() -> Encoded:
            encoded = wait()
            return Encoded(self.checked(encoded.latents, len(pixels)), encoded.maps)

        return finish

    def _begin(self, pixels: NDArray[Any], maps: Maps) -> Callable[[], Encoded]:
        if not pixels.flags.writeable:
            pixels = pixels.copy()  # torch warns of read-only memory
        try:
            with torch.inference_mode(), _deterministic():
                # From pinned memory the copy runs beside what the GPU does already; anything else waits for it.
                batch = self.prepare(torch.from_numpy(pixels).to(self.device, non_blocking=True))
                with self.arithmetic():
                    latents, found = self.forward_stages(batch, list(maps)) if maps else (self.forward(batch), {})
                tensors = [latents.float(), *(pooled(found[stage], size) for stage, size in maps.items())]
                arrays = _fetched(tensors)
        except torch.OutOfMemoryError:
            raise RequestError(
                f"encoder {self.name}: {len(pixels)} instances at once do not fit the GPU's memory; lower --batch"
            ) from None

        def wait(kept: NDArray[Any] = pixels) -> Encoded:  # what is still being copied must not go away
            latents, *rest = arrays()
            return Encoded(latents, dict(zip(maps, rest, strict=True)))

        return wait


def narrow_weights(model: nn.Module) -> None:
    """Turn the weights of convolutions and linear layers into bfloat16 once, as autocast would at every call: to the
    bit the same. Of classes of these layers that compute something of their own from their weights none is touched."""
    layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    for module in model.modules():
        if type(module) in layers:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)


def pooled(maps: Tensor, size: Size | None) -> Tensor:
    """Maps (n, c, h, w) or (n, c, t, h, w) as float32 (n, c, t, h, w), averaged to `size` by adaptive pooling."""
    maps = (maps if maps.ndim == 5 else maps[:, :, None]).float()
    if size is None:
        return maps
    if any(wanted > there for wanted, there in zip(size, maps.shape[2:], strict=True)):
        have, want = ("x".join(map(str, s)) for s in (maps.shape[2:], size))
        raise RequestError(f"--maps: a map of {have} cannot be pooled to {want}, which is larger")
    return F.adaptive_avg_pool3d(maps, size)


def _fetched(tensors: list[Tensor]) -> Callable[[], list[NDArray[Any]]]:
    """Tensors on their way to this machine's memory; what is returned waits for them."""
    if tensors[0].device.type != "cuda":
        return lambda: [tensor.numpy() for tensor in tensors]
    hosts = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors]
    done = torch.cuda.current_stream().record_event()

    def wait() -> list[NDArray[Any]]:
        done.synchronize()
        return [host.numpy() for host in hosts]

    return wait


@contextmanager
def _deterministic() -> Iterator[None]:
    """Same input, same bits: no algorithm chosen by timing, and float32 that is not TF32."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul


def usable_device(name: str) -> torch.device:
    """The torch device, or a RequestError where this machine has none such."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RequestError(f"--device {name}: no such device; use cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch sees no CUDA GPU here; use --device cpu")
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" to what this device computes fastest; others as they are."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device.type == "cpu" and cpu_has_bfloat16() else "float32"


@cache
def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 in hardware: x86 AVX512-BF16 or AMX, ARM bf16. False where unknown."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = {f for line in text.splitlines() if line.startswith(("flags", "Features")) for f in line.split()}
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def seeded(build: Callable[[], Model], seed: int) -> Model:
    """Build a network with its starting weights drawn from `seed`, leaving torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def random_or_refuse(request: EncoderRequest, where: str) -> str:
    """weights_sha256 of a network without a weights file: allowed only when asked for."""
    if not request.random_weights:
        raise RequestError(
            f"encoder {request.name} has no weights: give --weights MODALITY=FILE ({where}), "
            "or --random-weights for untrained ones"
        )
    return f"random:{request.seed}"
