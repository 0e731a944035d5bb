"""Makes corpus/. Run: python3 make_seeds.py   Small files of tests/golden/checkpoints and, out of
their zip, data.pkl with storages renamed to fit those that the targets supply (ten of 512 bytes)."""
import os
import re
import shutil
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden", "checkpoints")


def out(target, name):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name)


def data_pickle(name):
    with zipfile.ZipFile(os.path.join(GOLDEN, name)) as archive:
        content = archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))
    # Keys of two digits become one digit; a pickle holds no offsets that could break
    return re.sub(rb"X\x02\x00\x00\x00(\d)\d", lambda m: b"X\x01\x00\x00\x00" + m[1], content)


def pickles(target, names):
    for name in names:
        with open(out(target, os.path.splitext(name)[0] + ".pkl"), "wb") as file:
            file.write(data_pickle(name))


def files(target, names):
    for name in names:
        shutil.copyfile(os.path.join(GOLDEN, name), out(target, name))


pickles("zip_pickle", ["state_dict.pth", "views.pth", "types.pth", "parameters.pth", "training.pth",
                       "protocol4.pth", "complex.pth", "sparse.pth", "uint16.pth"])
files("zip_pickle", ["no_crc.pth", "cuda.pth"])
pickles("torchscript", ["script.pt"])
files("torchscript", ["no_crc.pth"])
pickles("ckpt", ["lightning.ckpt", "whole.pth", "training.pth"])
files("legacy", ["python2_ordered.pth", "legacy_protocol1.pth", "legacy.pth"])
pickles("legacy", ["parameters.pth"])
files("safetensors", ["plain.safetensors"])
heads = {"two": '{"a":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]},'
                '"b":{"dtype":"BF16","shape":[128],"data_offsets":[256,512]}}',
         "metadata": '{"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[512],'
                     '"data_offsets":[0,512]},"n":{"dtype":"I64","shape":[0,3],'
                     '"data_offsets":[512,512]}}'}
for name, head in heads.items():
    with open(out("safetensors", name + ".json"), "w") as file:
        file.write(head)
