"""The published files: where each comes from, where it goes, and what needs it."""

import os
from collections.abc import Iterator

from utils.download import PublishedFile

GROUPS = {
    "edit": "what a photo edit needs, with masks and text edits",
    "train": "what training needs",
    "metrics": "what the metrics need",
    "cars": "the published file of the car domain",
    "all": "every file, also those that nothing here needs",
}

# The project's Hugging Face and GitHub repositories, and four files from their original publishers.
_HUB = "hf://AIRI-Institute/StyleFeatureEditor/pretrained_models/"
_DIRECTIONS = "https://raw.githubusercontent.com/AIRI-Institute/StyleFeatureEditor/main/editings"
_TORCHVISION = "https://download.pytorch.org/models/"
_OPENAI = "https://openaipublic.azureedge.net/clip/models/"
_CLIP_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
_PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"


def published_files() -> list[PublishedFile]:
    """All of them. SFE_DIRECTIONS_URL replaces the server of the direction files, HF_ENDPOINT the hub."""
    return [*_hub(), *_directions(), *_of_others()]


def _hub() -> Iterator[PublishedFile]:
    for name, (groups, use) in _HUB_FILES.items():
        yield PublishedFile(name, tuple(groups.split()), use, _HUB + name)


def _directions() -> Iterator[PublishedFile]:
    base = os.environ.get("SFE_DIRECTIONS_URL", _DIRECTIONS).rstrip("/")
    for name, (groups, use) in _DIRECTION_FILES.items():
        yield PublishedFile(f"editings/{name}", tuple(groups.split()), use, f"{base}/{name}")


def _of_others() -> Iterator[PublishedFile]:
    clip = f"{_OPENAI}{_CLIP_SHA256}/ViT-B-32.pt"
    yield PublishedFile("ViT-B-32.pt", ("edit",), "CLIP of the text edits", clip, _CLIP_SHA256)
    for name, group, use in _NAMED_BY_SUM:
        base = _PYTORCH_FID if name.startswith("pt_inception") else _TORCHVISION
        yield PublishedFile(name, (group,), use, base + name, name.removesuffix(".pth").rpartition("-")[2])


_EDIT_AND_TRAIN = "edit train"
_MAPPERS_OF_TRAINING = {"afro", "angry", "bobcut", "bowlcut", "mohawk", "purple_hair"}
_MAPPERS = sorted(
    _MAPPERS_OF_TRAINING
    | {"beyonce", "curly_hair", "depp", "hilary_clinton", "surprised", "taylor_swift", "trump", "zuckerberg"}
)

_HUB_FILES = {
    "sfe_editor_light.pt": ("edit", "Inverter and Feature Editor (fse_full)"),
    "stylegan2-ffhq-config-f.pt": (_EDIT_AND_TRAIN, "generator of faces"),
    "e4e_ffhq_encode.pt": (_EDIT_AND_TRAIN, "e4e encoder of faces"),
    "face_parsing.farl.lapa.main_ema_136500_jit191.pt": ("edit", "face parser of use_mask"),
    "mobilenet0.25_Final.pth": ("edit", "face detector of use_mask"),
    "delta_mapper.pt": ("edit", "network of the deltaedit_* edits"),
    **{
        f"styleclip_mappers/{name}.pt": (_EDIT_AND_TRAIN if name in _MAPPERS_OF_TRAINING else "edit", f"edit '{name}'")
        for name in _MAPPERS
    },
    "sfe_inverter_light.pt": ("train", "Inverter alone (fse_inverter), from which stage 2 starts"),
    "stylegan2-ffhq-config-f.pkl": ("train", "discriminator of faces"),
    "iresnet50-7f187506.pth": ("train", "start of the Inverter's backbone"),
    "model_ir_se50.pth": ("train", "ArcFace of the loss id"),
    "moco_v2_800ep_pretrain.pt": ("train", "MoCo-v2 of the loss moco"),
    "Backbone_VITs_Epoch_2_Batch_12000_Time_2021-03-17-04-05_checkpoint.pth": ("train metrics", "ViT-Face of id_vit"),
    "CurricularFace_Backbone.pth": ("metrics", "CurricularFace of the metric id"),
    **{f"mtcnn/{net}.npy": ("", "face detector, which nothing here reads") for net in ("pnet", "rnet", "onet")},
    "stylegan2-car-config-f-new.pkl": ("cars", "generator and discriminator of cars"),
    "psp_ffhq_encode.pt": ("", "pSp encoder, which nothing here reads"),
    "79999_iter.pth": ("", "BiSeNet face parser, which nothing here reads"),
    "shape_predictor_68_face_landmarks.dat": ("", "landmarks of align, instead of the packaged ones"),
}
_DIRECTION_FILES = {
    "interfacegan_directions/age.pt": (_EDIT_AND_TRAIN, "edit 'age'"),
    "interfacegan_directions/rotation.pt": (_EDIT_AND_TRAIN, "edit 'rotation'"),
    "interfacegan_directions/smile.pt": ("edit", "edit 'smile'"),
    "bound/Eyeglasses_boundary.npy": ("edit", "edit 'fs_glasses'"),
    "bound/Heavy_Makeup_boundary.npy": (_EDIT_AND_TRAIN, "edit 'fs_makeup'"),
    "bound/Smiling_boundary.npy": (_EDIT_AND_TRAIN, "edit 'fs_smiling'"),
    "ganspace_pca/ffhq_pca.pt": (_EDIT_AND_TRAIN, "GANSpace edits of faces"),
    "ganspace_pca/cars_pca.pt": ("cars", "GANSpace edits of cars"),
    "styleclip/S_mean_std": ("edit", "styleclip_global_* edits"),
    "styleclip/templates.txt": ("edit", "styleclip_global_* and deltaedit_* edits"),
    "styleclip/delta_i_c.npy": ("edit", "styleclip_global_* edits"),
    "styleclip/fs3.npy": ("edit", "deltaedit_* edits"),
}
_NAMED_BY_SUM = (  # their names end in the beginning of their SHA-256
    ("vgg16-397923af.pth", "train", "VGG16 of the losses lpips and lpips_scale"),
    ("alexnet-owt-7be5be79.pth", "metrics", "AlexNet of the metric lpips"),
    ("pt_inception-2015-12-05-6726825d.pth", "metrics", "Inception of FID"),
)
