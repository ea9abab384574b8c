"""What was measured where: named in every table, because figures of different machines do not compare."""

import platform
from pathlib import Path

import torch

import st4rtrack


def machine() -> str:
    """Processor, threads, versions in one line."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    units = [unit for unit, here in torch.cpu.get_capabilities().items() if here and unit in ("amx_bf16", "avx512_bf16", "avx2")]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    return f"{processor} ({', '.join(units)}), {threads} threads, {device}, PyTorch {torch.__version__}, st4rtrack {st4rtrack.__version__}"
