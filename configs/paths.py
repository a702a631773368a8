"""Where the weight files are; change a line to use another file. Relative paths start at the project's root."""

from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Paths:
    """One field per file that the published project names."""

    e4e_path: str = "pretrained_models/e4e_ffhq_encode.pt"
    e4e_car_path: str = "pretrained_models/e4e_cars_encode.pt"
    farl_path: str = "pretrained_models/face_parsing.farl.lapa.main_ema_136500_jit191.pt"
    mobile_net_pth: str = "pretrained_models/mobilenet0.25_Final.pth"
    ir_se50_path: str = "pretrained_models/model_ir_se50.pth"
    stylegan_weights: str = "pretrained_models/stylegan2-ffhq-config-f.pt"
    stylegan_car_weights: str = "pretrained_models/stylegan2-car-config-f-new.pkl"
    stylegan_weights_pkl: str = "pretrained_models/stylegan2-ffhq-config-f.pkl"
    arcface_model_path: str = "pretrained_models/iresnet50-7f187506.pth"
    moco: str = "pretrained_models/moco_v2_800ep_pretrain.pt"
    curricular_face_path: str = "pretrained_models/CurricularFace_Backbone.pth"
    vit_path: str = (
        "pretrained_models/Backbone_VITs_Epoch_2_Batch_12000_Time_2021-03-17-04-05_checkpoint.pth"
    )
    inception: str = "pretrained_models/pt_inception-2015-12-05-6726825d.pth"
    landmark: str = "pretrained_models/shape_predictor_68_face_landmarks.dat"
    clip_path: str = "pretrained_models/ViT-B-32.pt"
    styleclip_mappers: str = "pretrained_models/styleclip_mappers"
    editings_dir: str = "pretrained_models/editings"


def weight_file(name: str) -> Path:
    """The file of a field of `Paths`, or `name` itself as a path: from the working directory, else from the root."""
    field = name in {f.name for f in fields(Paths)}
    path = Path(getattr(Paths, name) if field else name)
    return path if path.is_absolute() or (not field and path.exists()) else ROOT / path
