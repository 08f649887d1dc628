"""The table of models: small ones of public libraries, with random weights."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from tests.real_models.compare import Model
from tests.real_models.operators import ready

# Models that keep state which no value can carry, or cannot run a part again, and the error for each.
REFUSED: dict[str, str] = {
    # The first short input replaces its attention for good, and draws what the next don't draw.
    "transformers/big_bird": "HiddenState",
    "transformers/bigbird_pegasus": "HiddenState",
    # The edges of the first graph that it meets, and embeddings of earlier batches, in attributes.
    "torch_geometric/cached GCNConv": "HiddenState",
    "metric_learning/CrossBatchMemory": "HiddenState",
}

Batch = Callable[[Generator], tuple[tuple[Any, ...], dict[str, Any]]]


def reals(*shapes: tuple[int, ...], **fixed: Any) -> Batch:
    """Draw normal numbers, a tensor for each shape."""
    return lambda g: (tuple(torch.randn(shape, generator=g) for shape in shapes), fixed)


def images(size: int, batch: int = 2, channels: int = 3) -> Batch:
    return reals((batch, channels, size, size))


def tokens(most: int, *shapes: tuple[int, ...]) -> Batch:
    return lambda g: (tuple(torch.randint(most, shape, generator=g) for shape in shapes), {})


def load() -> tuple[list[Model], list[str]]:
    """Return the models of all libraries that are there, and a line for each that isn't."""
    ready()
    models, missing = [], []
    for library in LIBRARIES:
        try:
            models += [Model(f"{library.__name__}/{name}", *rest) for name, *rest in library()]
        except Exception as error:
            missing.append(f"{library.__name__}: {type(error).__name__}: {error}"[:200])
    return models, missing


Rows = Iterator[tuple[Any, ...]]

# --- timm: an architecture of each family, at the smallest size that it takes ----------------------

TIMM = {
    32: "resnet18 resnet26d seresnext26d_32x4d ecaresnet26t skresnet18 resnest14d "
    "res2net50_14w_8s resnetv2_18 gcresnext26ts eca_resnext26ts preresnet20 densenet121 "
    "dla34 mobilenetv2_035 mobilenetv3_small_050 efficientnet_b0 tf_efficientnetv2_b0 "
    "mnasnet_small fbnetc_100 spnasnet_100 tinynet_e lcnet_035 ghostnet_050 rexnet_100 "
    "hardcorenas_a semnasnet_075 mixnet_s regnetx_002 regnety_002 regnetz_005 repvgg_a0 "
    "convnext_atto convnextv2_atto convmixer_768_32 hrnet_w18_small selecsls42 nf_resnet26 nf_ecaresnet26 "
    "cspresnet50 darknetaa53 legacy_seresnet18 "
    "edgenext_xx_small "
    "mobilenetv4_conv_small mobileone_s0 repghostnet_050 repvit_m0_9 fastvit_t8 starnet_s1 "
    "hgnet_tiny hgnetv2_b0 fasternet_t0 shvit_s1 efficientvit_b0 resnet10t test_resnet test_byobnet test_convnext "
    "test_efficientnet test_mambaout mambaout_femto rdnet_tiny inception_next_atto resnext26ts",
    64: "vit_tiny_patch16_224 deit_tiny_patch16_224 deit3_small_patch16_224 "
    "vit_tiny_r_s16_p8_224 vit_wee_patch16_reg1_gap_256 flexivit_small eva02_tiny_patch14_224 "
    "cait_xxs24_224 xcit_nano_12_p16_224 convit_tiny mixer_s32_224 resmlp_12_224 gmlp_s16_224 "
    "tiny_vit_5m_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 levit_128s "
    "volo_d1_224 poolformer_s12 caformer_s18 convformer_s18 pvt_v2_b0 "
    "twins_svt_small coat_tiny coat_lite_tiny visformer_tiny mobilevit_xxs mobilevitv2_050 "
    "efficientformerv2_s0 efficientvit_m0 nextvit_small gcvit_xxtiny "
    "davit_tiny focalnet_tiny_srf hiera_tiny_224 maxvit_pico_rw_256 coatnet_pico_rw_224 "
    "nest_tiny pit_ti_224 tnt_s_patch16_224 sequencer2d_s mvitv2_tiny "
    "vit_dpwee_patch16_reg1_gap_256 test_vit test_vit2 swiftformer_xs",
    75: "inception_v3",
    224: "efficientformer_l1",
}  # fmt: skip


def timm() -> Rows:
    import timm

    for size, names in TIMM.items():
        for name in names.split():
            if timm.is_model(name):
                yield name, functools.partial(_timm, name, size), images(size)


def _timm(name: str, size: int) -> nn.Module:
    import timm

    shape = {"img_size": size} if size == 64 else {}
    try:
        return timm.create_model(name, num_classes=5, drop_rate=0.1, **shape)
    except TypeError:  # one that takes any size
        return timm.create_model(name, num_classes=5)


# --- torchvision ----------------------------------------------------------------------------------

TORCHVISION = (
    "alexnet:64 resnet18:32 resnext50_32x4d:32 densenet121:32 squeezenet1_1:64 "
    "mobilenet_v2:32 mobilenet_v3_small:32 efficientnet_b0:32 efficientnet_v2_s:32 mnasnet0_5:32 "
    "shufflenet_v2_x0_5:32 regnet_y_400mf:32 convnext_tiny:32 swin_t:64 swin_v2_t:64 googlenet:64 "
    "inception_v3:299 maxvit_t:224 vit_b_32:224"
)


def torchvision() -> Rows:
    from torchvision import models

    for word in TORCHVISION.split():
        name, size = word.split(":")
        extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        build = functools.partial(models.get_model, name, num_classes=5, **extra)
        yield name, build, images(int(size))
    segment = models.segmentation
    for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"):
        settings = {"weights": None, "weights_backbone": None, "num_classes": 3}
        yield name, functools.partial(getattr(segment, name), **settings), images(32)
    for name in ("r3d_18", "mc3_18", "r2plus1d_18"):
        build = functools.partial(getattr(models.video, name), num_classes=3)
        yield name, build, reals((1, 3, 4, 32, 32))
    raft = functools.partial(models.optical_flow.raft_small, weights=None)
    yield "raft_small", raft, reals((1, 3, 128, 128), (1, 3, 128, 128), num_flow_updates=2)


# --- transformers ---------------------------------------------------------------------------------

TINY: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "dim", "emb_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff"), 48),
    **dict.fromkeys(("ffn_dim", "n_inner", "hidden_dim", "d_inner"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **{"num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 8, "d_kv": 8, "vocab_size": 99},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 16, "pad_token_id": 0},
    **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "image_size": 32},
    "patch_size": 8,
}
SOUND: dict[str, Any] = {
    **{"conv_dim": (16, 16), "conv_kernel": (8, 3), "conv_stride": (4, 2)},
    **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2},
}
TEXT = (
    "albert bert roberta electra distilbert deberta deberta-v2 mpnet camembert ernie convbert squeezebert "
    "fnet nystromformer roformer yoso mobilebert big_bird longformer rembert xlm xlm-roberta "
    "ibert megatron-bert modernbert esm gpt2 gpt_neox gpt_bigcode openai-gpt opt bloom ctrl llama "
    "mistral mixtral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 gemma3_text phi phi3 mpt stablelm starcoder2 "
    "olmo olmo2 olmoe cohere persimmon granite granitemoe nemotron glm glm4 gpt_oss mamba "
    "falcon_mamba rwkv smollm3 exaone4 helium diffllama lfm2 biogpt xglm "
    "ernie4_5 minimax hunyuan_v1_dense arcee apertus seed_oss flex_olmo vaultgemma jetmoe roc_bert layoutlm canine"
)
SEQ2SEQ = (
    "t5 mt5 umt5 longt5 bart mbart pegasus pegasus_x marian blenderbot blenderbot-small "
    "m2m_100 fsmt led mvp plbart nllb-moe bigbird_pegasus"
)
VISION = (
    "vit deit beit vit_mae vit_msn dinov2 resnet mobilenet_v1 "
    "mobilenet_v2 mobilevit poolformer data2vec-vision "
    "dinov2_with_registers dinov3_vit ijepa swiftformer textnet siglip_vision_model clip_vision_model vitdet"
)
HIERARCHICAL = "swinv2 convnext convnextv2 pvt pvt_v2 segformer cvt regnet bit focalnet glpn"
AUDIO = "wav2vec2 hubert wavlm unispeech unispeech-sat sew data2vec-audio"


def transformers() -> Rows:
    import transformers

    transformers.logging.set_verbosity_error()
    known = transformers.CONFIG_MAPPING.keys()
    ids = (2, 12)

    def text(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"input_ids": torch.randint(3, 90, ids, generator=g)}

    def pair(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        draw = torch.randint(3, 90, (2, *ids), generator=g)
        return (), {"input_ids": draw[0], "decoder_input_ids": draw[1]}

    def image(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"pixel_values": torch.randn(2, 3, 32, 32, generator=g)}

    def sound(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"input_values": torch.randn(2, 1600, generator=g)}

    def larger(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"pixel_values": torch.randn(2, 3, 64, 64, generator=g)}

    kinds = (
        (TEXT, text, TINY),
        (SEQ2SEQ, pair, TINY),
        (VISION, image, TINY),
        (HIERARCHICAL, larger, {"image_size": 64}),
        (AUDIO, sound, {**TINY, **SOUND}),
    )
    for names, batch, settings in kinds:
        for name in names.split():
            if name in known:
                yield name, functools.partial(_transformer, name, settings=settings), batch
    # heads: the loss is the model's own
    labels = {"labels": torch.tensor([0, 1])}

    def classified(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {**text(g)[1], **labels}

    def continued(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = text(g)[1]["input_ids"]
        return (), {"input_ids": given, "labels": given}

    for name in ("bert", "gpt2", "llama", "distilbert", "mistral", "opt"):
        head = "AutoModelForSequenceClassification"
        yield f"{name}, classifier", functools.partial(_transformer, name, head), classified
    for name in ("gpt2", "llama", "opt", "bloom", "gpt_neox", "mamba", "mixtral"):
        head = "AutoModelForCausalLM"
        yield f"{name}, language model", functools.partial(_transformer, name, head), continued
    checkpointed = functools.partial(_checkpointed, "llama")
    yield "llama, gradient checkpointing", checkpointed, continued


def _transformer(name: str, head: str = "AutoModel", settings: dict[str, Any] = TINY) -> nn.Module:
    import transformers

    config = transformers.CONFIG_MAPPING[name](**settings)
    return getattr(transformers, head).from_config(config)


def _checkpointed(name: str) -> nn.Module:
    model: Any = _transformer(name, "AutoModelForCausalLM")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def peft() -> Rows:
    import peft

    kinds = {
        "LoRA": peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1),
        "DoRA": peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
        "IA3": peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        "LoHa": peft.LoHaConfig(r=2, target_modules=["q_proj"]),
        "LoKr": peft.LoKrConfig(r=2, target_modules=["q_proj"]),
        "OFT": peft.OFTConfig(oft_block_size=4, target_modules=["q_proj"]),
        "VeRA": peft.VeraConfig(r=2, target_modules=["q_proj"]),
        "AdaLoRA": peft.AdaLoraConfig(target_modules=["q_proj"], total_step=10),
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }

    def batch(g: Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = torch.randint(3, 90, (2, 12), generator=g)
        return (), {"input_ids": ids, "labels": ids}

    def build(config: Any) -> nn.Module:
        model = _transformer("llama", "AutoModelForCausalLM")
        return peft.get_peft_model(model, config)

    for name, config in kinds.items():
        yield name, functools.partial(build, config), batch


# --- diffusion, segmentation, medicine ------------------------------------------------------------


def diffusers() -> Rows:
    import diffusers

    small: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    unet = {
        **small,
        "sample_size": 16,
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "dropout": 0.1,
    }
    time = lambda g: torch.randint(100, (2,), generator=g)  # noqa: E731
    noisy: Batch = lambda g: ((torch.randn(2, 3, 16, 16, generator=g), time(g)), {})  # noqa: E731
    yield "UNet2DModel", lambda: diffusers.UNet2DModel(**unet), noisy
    told = {
        **small,
        "sample_size": 16,
        "layers_per_block": 1,
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    with_text: Batch = lambda g: (  # noqa: E731
        (torch.randn(2, 4, 16, 16, generator=g), time(g), torch.randn(2, 5, 8, generator=g)),
        {},
    )
    yield "UNet2DConditionModel", lambda: diffusers.UNet2DConditionModel(**told), with_text
    vae = {
        **small,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    sampled = reals((2, 3, 16, 16), sample_posterior=True)
    yield "AutoencoderKL", lambda: diffusers.AutoencoderKL(**vae), sampled
    vq = {**vae, "num_vq_embeddings": 8, "latent_channels": 4}
    yield "VQModel", lambda: diffusers.VQModel(**vq), images(16)
    dit = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "num_layers": 1}
    dit |= {"sample_size": 8, "norm_num_groups": 4}
    labelled: Batch = lambda g: (  # noqa: E731
        (torch.randn(2, 4, 8, 8, generator=g), time(g), torch.randint(9, (2,), generator=g)),
        {},
    )
    build = functools.partial(diffusers.DiTTransformer2DModel, num_embeds_ada_norm=10, **dit)
    yield "DiTTransformer2DModel", build, labelled


def segmentation_models() -> Rows:
    import segmentation_models_pytorch as smp

    for name in ("Unet", "UnetPlusPlus", "FPN", "PSPNet", "Linknet", "MAnet", "PAN"):
        settings: dict[str, Any] = {"encoder_weights": None, "classes": 2}
        size = 128 if name == "PAN" else 64
        build = functools.partial(getattr(smp, name), "resnet18", **settings)
        yield name, build, images(size)
    for name in ("DeepLabV3", "DeepLabV3Plus", "Segformer", "UPerNet"):
        build = functools.partial(getattr(smp, name), "mobilenet_v2", **settings)
        yield name, build, images(64)


def monai() -> Rows:
    from monai.networks import nets

    flat = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    wide = {"channels": (4, 8, 16), "strides": (2, 2), "dropout": 0.1}
    one = images(32, channels=1)
    yield "UNet", lambda: nets.UNet(**flat, **wide), one
    yield "AttentionUnet", lambda: nets.AttentionUnet(**flat, **wide), one
    yield "BasicUNet", lambda: nets.BasicUNet(**flat, features=(4, 4, 8, 8, 8, 4)), one
    yield "SegResNet", lambda: nets.SegResNet(**flat, init_filters=8, dropout_prob=0.1), one
    kernels = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    yield "DynUNet", lambda: nets.DynUNet(**flat, **kernels, filters=[4, 8, 8]), one
    yield "DenseNet121", lambda: nets.DenseNet121(**flat), one
    yield "HighResNet", lambda: nets.HighResNet(**flat), one
    yield "UNETR", lambda: nets.UNETR(1, 2, 32, 8, 16, 32, 4, spatial_dims=2), one
    vit = {"in_channels": 1, "img_size": 32, "patch_size": 8, "spatial_dims": 2, "hidden_size": 16}
    yield "ViT", lambda: nets.ViT(**vit, mlp_dim=16, num_layers=2, num_heads=4), one
    yield "VNet", lambda: nets.VNet(spatial_dims=2, in_channels=1, out_channels=2), one


# --- attention from einops ------------------------------------------------------------------------


def x_transformers() -> Rows:
    from x_transformers import Decoder, Encoder, TransformerWrapper, ViTransformerWrapper

    def build(kind: Any, **settings: Any) -> nn.Module:
        layers = kind(dim=32, depth=2, heads=2, **settings)
        return TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=layers)

    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "rotary": {"rotary_pos_emb": True},
        "alibi": {"alibi_pos_bias": True, "alibi_num_heads": 1},
        "relative": {"rel_pos_bias": True},
        "dynamic": {"dynamic_pos_bias": True},
        "dropout": {"attn_dropout": 0.1, "ff_dropout": 0.1, "layer_dropout": 0.2},
        "gated": {"ff_glu": True, "attn_on_attn": True, "use_rmsnorm": True},
        "memories": {"attn_num_mem_kv": 4, "attn_qk_norm": True},
        "sandwich": {"sandwich_norm": True, "macaron": True},
        "talking": {"attn_pre_talking_heads": True, "attn_post_talking_heads": True},
        "shift": {"shift_tokens": 1},
    }
    for name, settings in kinds.items():
        yield name, functools.partial(build, Decoder, **settings), tokens(50, (2, 10))
    yield "encoder", functools.partial(build, Encoder), tokens(50, (2, 10))

    def picture() -> nn.Module:
        layers = Encoder(dim=32, depth=2, heads=2)
        return ViTransformerWrapper(image_size=16, patch_size=4, num_classes=3, attn_layers=layers)

    yield "vision", picture, images(16)


VIT = (
    "vit:ViT simple_vit:SimpleViT cait:CaiT deepvit:DeepViT vit_for_small_dataset:ViT "
    "vit_with_patch_dropout:ViT parallel_vit:ViT rvt:RvT simple_vit_with_register_tokens:SimpleViT"
)


def vit_pytorch() -> Rows:
    settings: dict[str, Any] = {"image_size": 16, "patch_size": 4, "num_classes": 3, "dim": 16}
    settings |= {"depth": 2, "heads": 2, "mlp_dim": 16}
    for word in VIT.split():
        name, kind = word.split(":")
        module = importlib.import_module(f"vit_pytorch.{name}")
        extra = {"cls_depth": 1, "layer_dropout": 0.1} if kind == "CaiT" else {}
        build = functools.partial(getattr(module, kind), **settings, **extra)
        yield name, build, images(16)
    from vit_pytorch.mobile_vit import MobileViT

    widths = [8, 8, 16, 16, 24, 24, 32, 32, 32, 32, 32]
    build = functools.partial(MobileViT, (64, 64), [16, 20, 24], widths, 3)
    yield "mobile_vit", build, images(64)


def other_attention() -> Rows:
    from linformer import LinformerLM
    from perceiver_pytorch import Perceiver
    from performer_pytorch import PerformerLM

    perceiver: dict[str, Any] = {"input_channels": 3, "num_freq_bands": 2, "max_freq": 4.0}
    perceiver |= {"depth": 2, "num_latents": 8, "latent_dim": 16, "num_classes": 3}
    yield "perceiver", lambda: Perceiver(**perceiver), reals((2, 8, 8, 3))
    small: dict[str, Any] = {"num_tokens": 50, "dim": 32, "depth": 2, "heads": 2}
    yield "linformer", lambda: LinformerLM(**small, seq_len=16, k=4), tokens(50, (2, 16))
    performer = functools.partial(PerformerLM, **small, max_seq_len=16, dim_head=16)
    yield "performer", performer, tokens(50, (2, 16))


# --- graphs, flows, equations, Gaussian processes -------------------------------------------------


def torch_geometric() -> Rows:
    from torch_geometric import nn as gnn
    from torch_geometric.nn import models

    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
    nodes: Batch = lambda g: ((torch.randn(6, 4, generator=g), edges), {})  # noqa: E731
    for name in ("GCN", "GraphSAGE", "GIN", "GAT", "PNA", "EdgeCNN"):
        extra: dict[str, Any] = {}
        if name == "PNA":
            extra = {"aggregators": ["mean", "max"], "scalers": ["identity"]}
            extra["deg"] = torch.tensor([0, 4, 2])
        kind = functools.partial(getattr(models, name), dropout=0.2, norm="batch", **extra)
        yield name, functools.partial(kind, 4, 8, 2, 3), nodes
    layers = "GCNConv SAGEConv GATConv GATv2Conv GraphConv TransformerConv TAGConv SGConv ARMAConv"
    for name in [*layers.split(), "ClusterGCNConv", "FeaStConv", "SuperGATConv", "LEConv"]:
        yield name, functools.partial(getattr(gnn, name), 4, 3), nodes
    yield "cached GCNConv", functools.partial(gnn.GCNConv, 4, 3, cached=True), nodes


def flows() -> Rows:
    import normflows
    from nflows import distributions, transforms
    from nflows import flows as nf

    class LogDensity(nn.Module):
        def __init__(self, flow: Any) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, x: Tensor) -> Tensor:
            return self.flow.log_prob(x)

    def masked() -> nn.Module:
        parts = [transforms.MaskedAffineAutoregressiveTransform(4, 8), transforms.BatchNorm(4)]
        parts.append(transforms.ActNorm(4))
        flow = transforms.CompositeTransform(parts)
        return LogDensity(nf.Flow(flow, distributions.StandardNormal([4])))

    def splines() -> nn.Module:
        kind = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
        flow = kind(4, 8, tails="linear", tail_bound=3.0)
        return LogDensity(nf.Flow(flow, distributions.StandardNormal([4])))

    def coupled() -> nn.Module:
        parts: list[Any] = []
        for _ in range(2):
            net = normflows.nets.MLP([2, 8, 4])
            parts += [normflows.flows.AffineCouplingBlock(net), normflows.flows.ActNorm(4)]
            parts.append(normflows.flows.Permute(4, mode="swap"))
        return LogDensity(normflows.NormalizingFlow(normflows.distributions.DiagGaussian(4), parts))

    data = reals((8, 4))
    for name, build in (("masked", masked), ("splines", splines), ("coupled", coupled)):
        yield name, build, data


def torchdiffeq() -> Rows:
    from torchdiffeq import odeint, odeint_adjoint

    class Equation(nn.Module):
        def __init__(self, solve: Any, method: str) -> None:
            super().__init__()
            self.field = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
            self.solve, self.method = solve, method

        def forward(self, x: Tensor) -> Tensor:
            times = torch.linspace(0, 1, 4)
            right = Right(self.field) if self.solve is odeint_adjoint else self._right
            return self.solve(right, x, times, method=self.method)

        def _right(self, t: Tensor, x: Tensor) -> Tensor:
            return self.field(x)

    class Right(nn.Module):
        def __init__(self, field: nn.Module) -> None:
            super().__init__()
            self.field = field

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.field(x)

    data = reals((3, 4))
    for method in ("dopri5", "rk4"):
        yield method, functools.partial(Equation, odeint, method), data
        yield f"{method}, adjoint", functools.partial(Equation, odeint_adjoint, method), data


def gpytorch() -> Rows:
    import gpytorch as gp

    x = torch.linspace(0, 1, 10)
    y = torch.sin(6 * x)

    class Exact(gp.models.ExactGP):
        def __init__(self) -> None:
            super().__init__(x, y, gp.likelihoods.GaussianLikelihood())
            self.mean_module = gp.means.ConstantMean()
            self.covar_module = gp.kernels.ScaleKernel(gp.kernels.RBFKernel())

        def forward(self, x: Tensor) -> Any:
            return gp.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    class ExactLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Exact()
            self.mll = gp.mlls.ExactMarginalLogLikelihood(self.model.likelihood, self.model)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return -self.mll(self.model(x), y)

    class Approximate(gp.models.ApproximateGP):
        def __init__(self) -> None:
            posterior = gp.variational.CholeskyVariationalDistribution(5)
            points = torch.linspace(0, 1, 5)[:, None]
            super().__init__(gp.variational.VariationalStrategy(self, points, posterior))
            self.mean_module = gp.means.ConstantMean()
            self.covar_module = gp.kernels.ScaleKernel(gp.kernels.MaternKernel())

        def forward(self, x: Tensor) -> Any:
            return gp.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    class Variational(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.likelihood = Approximate(), gp.likelihoods.GaussianLikelihood()
            self.mll = gp.mlls.VariationalELBO(self.likelihood, self.model, num_data=10)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return -self.mll(self.model(x), y)

    fixed: Batch = lambda g: ((x, y), {})  # noqa: E731
    rows: Batch = lambda g: ((x[:, None], y), {})  # noqa: E731
    yield "exact", ExactLoss, fixed
    yield "variational", Variational, rows


def e3nn() -> Rows:
    from e3nn import nn as enn
    from e3nn import o3

    yield "linear", lambda: o3.Linear("4x0e+2x1o", "3x0e+1x1o"), reals((5, 10))
    tensor = functools.partial(
        o3.FullyConnectedTensorProduct, "2x0e+1x1o", "1x0e+1x1o", "2x0e+1x1o"
    )
    yield "tensor product", tensor, reals((5, 5), (5, 4))
    yield "batch norm", lambda: enn.BatchNorm("2x0e+1x1o"), reals((5, 5))
    yield "gate net", lambda: enn.FullyConnectedNet([4, 8, 3], torch.tanh), reals((5, 4))


def kornia() -> Rows:
    from kornia import models
    from kornia.feature import HardNet, HyNet, SOSNet, TFeat

    for kind in (HardNet, SOSNet, TFeat, HyNet):
        yield kind.__name__, functools.partial(kind, pretrained=False), images(32, 3, 1)
    del models


def metric_learning() -> Rows:
    from pytorch_metric_learning import losses, miners

    class Loss(nn.Module):
        def __init__(self, make: Callable[[], nn.Module], mine: bool) -> None:
            super().__init__()
            self.embed, self.loss = nn.Linear(6, 4), make()
            self.miner = miners.MultiSimilarityMiner() if mine else None

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            found = self.embed(x)
            if self.miner is None:
                return self.loss(found, labels)
            return self.loss(found, labels, self.miner(found, labels))

    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
    batch: Batch = lambda g: ((torch.randn(8, 6, generator=g), labels), {})  # noqa: E731
    with_classes = {"num_classes": 3, "embedding_size": 4}
    for name in ("ArcFaceLoss", "CosFaceLoss", "ProxyAnchorLoss", "ProxyNCALoss"):
        make = functools.partial(getattr(losses, name), **with_classes)
        yield name, functools.partial(Loss, make, False), batch
    for name in ("TripletMarginLoss", "NTXentLoss", "ContrastiveLoss", "CircleLoss"):
        yield name, functools.partial(Loss, getattr(losses, name), True), batch
    memory = functools.partial(losses.CrossBatchMemory, losses.NTXentLoss(), 4, memory_size=16)
    yield "CrossBatchMemory", functools.partial(Loss, memory, False), batch


LIBRARIES: tuple[Callable[[], Rows], ...] = (
    timm, torchvision, transformers, peft, diffusers, segmentation_models, monai, x_transformers,
    vit_pytorch, other_attention, torch_geometric, flows, torchdiffeq, gpytorch, e3nn, kornia,
    metric_learning,
)  # fmt: skip
