"""Fetch the published weights and direction files into pretrained_models/."""

import logging

from arguments.flags import Parser, path
from configs.paths import ROOT
from configs.weights import GROUPS, published_files
from utils.cli import run
from utils.download import NotPublished, fetch, select
from utils.errors import UserError

log = logging.getLogger("download_weights")
EPILOG = """groups:
{groups}

examples:
  python scripts/download_weights.py                               what a photo edit needs
  python scripts/download_weights.py --only edit train             and what training needs
  python scripts/download_weights.py --only sfe_editor_light.pt    one file
  python scripts/download_weights.py --list                        all names, and what is there
"""


def main() -> int:
    groups = "\n".join(f"  {name:<9}{text}" for name, text in GROUPS.items())
    parser = Parser(__doc__, EPILOG.format(groups=groups))
    parser.add_argument("--only", nargs="+", metavar="NAME", default=["edit"], help="files or groups (default: edit)")
    parser.add_argument("--to", type=path, default=ROOT / "pretrained_models", metavar="DIR", help="where to")
    parser.add_argument("--list", action="store_true", help="show every file, its groups and what it is for, then stop")
    args = parser.parse_args()
    for name in ("httpx", "httpx2"):  # they tell of every request
        logging.getLogger(name).setLevel(logging.WARNING)
    files = published_files()
    if args.list:
        for file in files:
            there = "there" if (args.to / file.name).exists() else "-"
            print(f"{there:<6}{' '.join(file.groups):<14}{file.name:<74}{file.use}")
        return 0
    missing = []
    for file in select(files, args.only, "--only"):
        try:
            fresh = fetch(file.url, args.to / file.name, file.sha256)
            log.info("%s %s", args.to / file.name, "fetched" if fresh else "is there already")
        except NotPublished as error:  # the others may be there
            log.error("%s", error)
            missing.append(file.name)
    if missing:
        raise UserError(f"not on their servers: {', '.join(missing)}; the other files are in {args.to}")
    return 0


if __name__ == "__main__":
    run(main)
