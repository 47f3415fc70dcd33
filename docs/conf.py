"""Sphinx settings; the build is offline and fails on any warning."""

import sys
from pathlib import Path

import sslmed

sys.path.insert(0, str(Path(__file__).parent))
from inventories.make import PROJECTS

project = "sslmed"
author = "The sslmed authors"
copyright = "2026, the sslmed authors"
release = version = sslmed.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "extensions.docstrings",
    "extensions.links",
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}  # autosummary writes the first
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"sslmed {release}"
html_static_path = ["_static"]
html_css_files = ["sslmed.css"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks keep the outputs of docs/run_notebooks.py

default_role = "code"
highlight_language = "none"  # commands; code says that it is Python
copybutton_prompt_text = r">>> |\.\.\. "  # copied without prompts, and without what the code prints
copybutton_prompt_is_regexp = True

# Signatures: one parameter a line where they are long, with types by their short names.
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # What torch, kornia or a base class calls, and users do not.
    "exclude-members": "apply_non_transform_mask, apply_transform, apply_transform_mask, draws, extra_repr, "
    "fields_from, fit, gated, generate_transformation_matrix, inverse_transform, parameters_from, source, train, "
    "transform, transform_boxes, transform_inputs, transform_keypoints, transform_masks",
}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
maximum_signature_line_length = 60
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
toc_object_entries = False  # a page holds one object; its entries would be copied into the sidebar of all pages
napoleon_use_rtype = False
napoleon_custom_sections = ["Reference"]

# Other projects' objects that the pages name, in files that inventories/make.py makes: no network is used.
intersphinx_mapping = {project: (address, f"inventories/{project}.inv") for project, (address, _) in PROJECTS.items()}

# The reference has a page for each object, or for those that are one thing: a loss and its function, a result's class.
_METRICS = "sslmed.metrics"
autosummary_context = {
    "families": {
        **{
            f"sslmed.losses.{module}": [f"sslmed.losses.{function}"]
            for module, function in {
                "NTXent": "nt_xent",
                "InfoNCE": "info_nce",
                "NCE": "nce",
                "BYOL": "byol",
                "NegativeCosine": "negative_cosine",
                "MaskedL1": "masked_l1",
                "LocalContrastive": "local_contrastive",
                "Perceptual": "perceptual",
            }.items()
        },
        **{
            f"{_METRICS}.{function}": [f"{_METRICS}.stateful.{module}"]
            for function, module in {
                "dice": "Dice",
                "jaccard": "Jaccard",
                "precision": "Precision",
                "recall": "Recall",
                "pixel_accuracy": "PixelAccuracy",
                "balanced_pixel_accuracy": "BalancedPixelAccuracy",
                "pixel_counts": "PixelCounts",
                "hausdorff": "Hausdorff",
                "average_surface_distance": "AverageSurfaceDistance",
                "surface_dice": "SurfaceDice",
                "confusion_matrix": "ConfusionMatrix",
                "mcc": "MCC",
                "balanced_accuracy": "BalancedAccuracy",
                "weighted_f1": "WeightedF1",
                "sensitivity": "Sensitivity",
                "specificity": "Specificity",
                "roc_auc": "ROCAUC",
                "average_precision": "AveragePrecision",
            }.items()
        },
        "sslmed.losses.RelationContrastive": ["sslmed.losses.RelationHead", "sslmed.losses.relation_contrastive"],
        "sslmed.augment.views.local_pair": ["sslmed.augment.pairs.LocalPair", "sslmed.augment.pairs.Pair"],
        "sslmed.augment.views.segmentation": ["sslmed.augment.joint.JointView"],
        "sslmed.data.audit.audit": ["sslmed.data.audit.Audit"],
        "sslmed.methods.Method": ["sslmed.methods.Step"],
        f"{_METRICS}.compare.paired": [f"{_METRICS}.compare.Comparison"],
        f"{_METRICS}.compare.spread": [f"{_METRICS}.compare.Spread"],
        f"{_METRICS}.summarize": [f"{_METRICS}.summary.Summary", f"{_METRICS}.summary.Row"],
        "sslmed.models.load_encoder": ["sslmed.models.MatchReport"],
        "sslmed.studies.study.Study": ["sslmed.studies.tables.Published"],
        "sslmed.studies.engine.Fit": ["sslmed.studies.engine.fit", "sslmed.studies.engine.Trainable"],
        "sslmed.studies.program.run_study": [
            f"sslmed.studies.options.{function}" for function in ("add_study", "add_sets", "sets", "reading")
        ],
        "sslmed.studies.galleries.pair_gallery": ["sslmed.studies.galleries.masked_gallery"],
        "sslmed.tasks.metrics.Metric": [
            f"sslmed.tasks.metrics.{function}"
            for function in ("metric", "metrics_of", "table_metrics", "case_metric", "with_area")
        ],
    },
    # Dataclasses and tuples whose fields the docstring explains already.
    "without_members": [
        "sslmed.augment.pairs.Pair",
        "sslmed.methods.Step",
        f"{_METRICS}.compare.Comparison",
        f"{_METRICS}.compare.Spread",
        "sslmed.studies.study.Recipe",
        "sslmed.studies.study.Refinement",
        "sslmed.studies.study.Stage",
        "sslmed.studies.data_spec.DataSpec",
        "sslmed.studies.sources.Source",
        "sslmed.studies.engine.Fit",
        "sslmed.studies.optimisers.Optimiser",
        "sslmed.studies.tables.Published",
    ],
    "background": {
        **{page.stem: f"/explanations/{page.stem}" for page in Path(__file__).parent.glob("explanations/*.md")},
        "studies": "/studies",
    },
}
