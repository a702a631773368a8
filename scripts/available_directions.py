"""Write available_directions.txt from configs/domains/*.yaml; with --check only compare, exit code 1 if it differs."""

from arguments.domain import DOMAINS_DIR, load_domain
from arguments.flags import Parser
from configs.paths import ROOT
from utils.cli import run
from utils.files import atomic_path

TARGET = ROOT / "available_directions.txt"
FIRST = "human_faces"  # what most people look for


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file and write nothing")
    args = parser.parse_args()
    from editings.directions_text import directions_text  # torch is imported only once the options are right
    from editings.latent_editor import LatentEditor

    names = sorted((path.stem for path in DOMAINS_DIR.glob("*.yaml")), key=lambda name: (name != FIRST, name))
    text = directions_text([LatentEditor(load_domain(name)) for name in names])
    if args.check:
        same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print(f"{TARGET.name} {'equals' if same else 'differs from'} the domains' data")
        return 0 if same else 1
    with atomic_path(TARGET) as path:
        path.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    run(main)
