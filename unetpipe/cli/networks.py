"""Commands for a network outside the workflow."""

import argparse
import os
from pathlib import Path


def add(commands) -> None:
    """Add them to the command line."""
    _add_predict(commands)
    _add_export(commands)
    _add_figures(commands)


def _add_predict(commands) -> None:
    predicted = commands.add_parser(
        "predict",
        help="predict one image file",
        description="Writes the image's store, its tissue and its probabilities (p x 255), as the workflow does.",
        epilog="example: unetpipe predict my/results/network/all/network.json slide.svs out",
    )
    predicted.add_argument("network", type=Path, nargs="+", help="network.json; of several the mean is taken")
    predicted.add_argument("image", help="any format that the workflow reads; file.h5:/array names an array inside")
    predicted.add_argument("output", type=Path, metavar="OUTPUT_FOLDER", help="the same one goes on where it stopped")
    predicted.add_argument(
        "--channels",
        type=_channels,
        metavar="NAME,…",
        help="names or numbers, in the order of the training images (theirs, where the file names them all)",
    )
    predicted.add_argument("--views", type=int, default=1, choices=(1, 8), help="8: mean of rotations and mirrorings")
    predicted.add_argument(
        "--contrast", type=float, help="below it is empty glass; 0: nothing is empty (that of the training images)"
    )
    predicted.add_argument("--block", type=_side, default="auto", help="pixels, a multiple of 256 (%(default)s)")
    predicted.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    predicted.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    predicted.set_defaults(run=_predict)


def _add_export(commands) -> None:
    exported = commands.add_parser(
        "export",
        help="write a trained network as ONNX or as bioimage.io package",
        epilog="example: unetpipe export my/results/network/all/network.json cells.zip",
    )
    exported.add_argument("network", type=Path, help="results/network/all/network.json")
    exported.add_argument("output", type=Path, help="FILE.onnx, or FILE.zip: a package for Fiji, QuPath and ilastik")
    exported.add_argument("--name", default="unetpipe U-Net", help="of the package's model (%(default)s)")
    exported.add_argument(
        "--licence", default="CC-BY-4.0", help="of the package's weights, an SPDX identifier (%(default)s)"
    )
    exported.set_defaults(run=_export)


def _add_figures(commands) -> None:
    figures = commands.add_parser(
        "figures",
        help="draw the weights and the deformation of an image, as figures 3 and 2 of the paper",
        description="Writes weights.png and deformation.png, of cells like the demo's or of a file. "
        "Arrows show where the image moves at the points of the coarse grid; the drawn grid ends where the image ends: "
        "beyond, it is mirrored.",
        epilog="example: unetpipe figures figures --image cells.tif --labels cells-ids.tif",
    )
    figures.add_argument("folder", type=Path, metavar="OUTPUT_FOLDER")
    figures.add_argument("--image", type=Path, metavar="FILE", help="its first plane, of large ones the middle")
    figures.add_argument("--labels", type=Path, metavar="FILE", help="instance ids of the same shape, 0 is background")
    figures.set_defaults(run=_figures)


def _channels(text: str) -> list[str | int]:
    return [int(name) if name.isdecimal() else name for name in text.split(",")]


def _side(text: str) -> int | str:
    if text == "auto" or (text.isdecimal() and int(text) and int(text) % 256 == 0):
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a multiple of 256")


def _predict(options) -> None:
    from unetpipe.trained import predict_file

    options.output.mkdir(parents=True, exist_ok=True)
    wanted = {name: getattr(options, name) for name in ("channels", "contrast", "block", "views", "device", "threads")}
    image, _, inside = options.image.partition(":/")
    print(predict_file(options.network, image, options.output, inside=inside, **wanted))


def _export(options) -> None:
    try:
        from unetpipe.export import export_onnx, export_package
    except ImportError as error:
        raise SystemExit(f"{error}; install what exporting needs: pip install 'unetpipe[export]'") from error

    if options.output.suffix == ".onnx":
        export_onnx(options.network, options.output)
    elif options.output.suffix == ".zip":
        export_package(options.network, options.output, name=options.name, licence=options.licence)
    else:
        raise SystemExit(f"{options.output} ends neither in .onnx nor in .zip; name the kind of file that way")
    print(options.output)


def _figures(options) -> None:
    from unetpipe.figures import write_figures

    print(*write_figures(options.folder, image=options.image, labels=options.labels), sep="\n")
