"""The methods, one file each. A new one is a file with a `Method` in it and one line here; a package of somebody
else's adds one by an entry point of the group `mmcli.methods`."""

from mmcli.registry import Registry

METHODS = Registry(
    "method",
    "mmcli.methods",
    "mmcli.training.method:Method",
    {
        "attention": "mmcli.methods.attention:Attention",
        "kd": "mmcli.methods.kd:KnowledgeDistillation",
        "deep-guide": "mmcli.methods.deep_guide:DeepGuide",
    },
)
