"""The methods, one file each. A new one is a file with a `Method` in it and one line here; a package of somebody
else's adds one by an entry point of the group `mmcli.methods`."""

from mmcli.registry import Registry

METHODS = Registry(
    "method",
    "mmcli.methods",
    "mmcli.training.method:Method",
    {
        "attention": "mmcli.methods.attention:Attention",
        "single": "mmcli.methods.single:Single",
        "late": "mmcli.methods.late:Late",
        "early": "mmcli.methods.early:Early",
        "gated": "mmcli.methods.gated:Gated",
        "low-rank-tensor": "mmcli.methods.low_rank_tensor:LowRankTensor",
        "cross-attention": "mmcli.methods.cross_attention:CrossAttentionFusion",
        "mdfn": "mmcli.methods.mdfn:MDFN",
        "lnmp": "mmcli.methods.lnmp:LNMP",
        "logistic": "mmcli.methods.baselines:Logistic",
        "forest": "mmcli.methods.baselines:Forest",
        "boosting": "mmcli.methods.baselines:Boosting",
        "additive": "mmcli.methods.additive:Additive",
        "super-learner": "mmcli.methods.super_learner:SuperLearner",
        "kd": "mmcli.methods.kd:KnowledgeDistillation",
        "deep-guide": "mmcli.methods.deep_guide:DeepGuide",
    },
)
