#!/usr/bin/env python3
"""Writes data/demo/photographs, x4 and x8 again from the photographs in scikit-image's data folder.

    python3 -m pip install scikit-image==0.26.0 Pillow==13.0.0   (in a virtual environment)
    python3 data/demo/make_demo.py [OUT]

HR is a plain crop of the photograph. LR is that crop made smaller by Pillow's BICUBIC filter
(antialiased, 8 bits, gamma-encoded values), nothing else. The whole photographs are saved as JPEG,
quality 95, for the simulated camera. The photographs' SHA-256 are checked
first, so another edition of the package cannot slip in. Prints the SHA-256 of each file written.
"""
import hashlib
import io
import sys
from pathlib import Path

import skimage
from PIL import Image

PHOTOS = {  # file in scikit-image's data folder, SHA-256
    "astronaut": ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    "coffee": ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "chelsea": ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "rocket": ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
}
CROPS = {  # scale: {photograph: left, top, width, height in its pixels}
    4: {
        "astronaut": (100, 256, 256, 256),
        "chelsea": (108, 40, 256, 256),
        "coffee": (260, 96, 256, 256),
    },
    8: {
        "astronaut": (104, 0, 256, 256),
        "chelsea": (60, 30, 384, 256),
        "rocket": (170, 128, 384, 288),
    },
}


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    source = Path(skimage.__file__).parent / "data"
    for name, (file, expected) in PHOTOS.items():
        data = (source / file).read_bytes()
        if hashlib.sha256(data).hexdigest() != expected:
            sys.exit(f"{source / file}: not the known photograph, its SHA-256 differs")
        path = out / "photographs" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(data)).convert("RGB").save(path, quality=95, subsampling=0)
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(out))
    for scale, crops in CROPS.items():
        for name, (left, top, width, height) in crops.items():
            file, expected = PHOTOS[name]
            data = (source / file).read_bytes()
            if hashlib.sha256(data).hexdigest() != expected:
                sys.exit(f"{source / file}: not the known photograph, its SHA-256 differs")
            photo = Image.open(io.BytesIO(data)).convert("RGB")
            hr = photo.crop((left, top, left + width, top + height))
            lr = hr.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
            for kind, image in (("HR", hr), ("LR", lr)):
                path = out / f"x{scale}" / kind / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, optimize=True)
                print(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(out))


main()
