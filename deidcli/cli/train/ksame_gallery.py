"""`train ksame-gallery`: labelled faces in, a preset of proxies for the method ksame-m out."""

from __future__ import annotations

from pathlib import Path

import click

from deidcli.cli import options as opt


@click.command("ksame-gallery", cls=opt.Command)
@opt.stacked(
    click.option("--data", required=True, metavar="PACK",
                 help="Faces whose file names say AGE_GENDER_RACE_DATE, as those of UTKFace."),
    click.option("--pictures", required=True, metavar="DIR", help="The folder whose files --data was packed from."),
    click.option("--faces", required=True, metavar="FILE", help="What `deid detect` printed of the same folder."),
    click.option("--people", required=True, metavar="PACK",
                 help="Several faces of each person, named PERSON/FILE; only their landmarks are used."),
    click.option("--val", required=True, metavar="PACK", help="Faces of people who are in neither, for the card."),
    click.option("--out", required=True, metavar="DIR", help="The preset's folder, like models/ksame-gallery."),
    click.option("--seed", type=int, default=1, show_default=True, help="Of the draw of people."),
    opt.config,
)  # fmt: skip
def command(data: str, pictures: str, faces: str, people: str, val: str, out: str, seed: int) -> int:
    """Average people of like age, gender and race to faces of nobody, check that nobody is shown, and write a preset.

    \b
    deid detect --detector hog --upsample 0 utkface/images > utk.jsonl
    deid align --pack --largest --size 128 --faces utk.jsonl utkface/images utk.npz
    deid train ksame-gallery --data utk.npz --faces utk.jsonl --pictures utkface/images \\
        --people train.npz --val val.npz --out models/ksame-gallery
    """
    from deidcli.training.gallery_preset import Sources, make

    sources = Sources(Path(data), Path(faces), Path(pictures), Path(people), Path(val))
    preset = make(sources, Path(out), seed, lambda text: click.echo(text, err=True))
    click.echo(f"{preset.name} is in {preset.folder}", err=True)
    return 0
