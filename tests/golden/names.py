"""Today's names of what the tables have under another name.

Left is the name in the tables, right the name today. A renaming changes the right side here and leaves the
tables alone. None means that nothing replaces it: such rows are not compared. A name that is missing here is
unchanged. Do not give an old name a new meaning while a table still has it.
"""

from collections.abc import Mapping

SPANS: Mapping[str, str | None] = {
    "activation_upload": "activation_upload",
    "adapter_download": "adapter_download",
    "adapter_upload": "adapter_upload",
    "aggregate": "aggregate",
    "client_backward": "client_backward",
    "client_forward": "client_forward",
    "client_forward_backward": "client_forward_backward",
    "gradient_download": "gradient_download",
    "server_forward_backward": "server_forward_backward",
    "whole_step": "whole_step",
}

METRICS: Mapping[str, str | None] = {
    "coherence": "coherence",
    "covariance_error": "covariance_error",
    "cut_layer": "cut_layer",
    "dropped_energy": "dropped_energy",
    "energy_scale": "energy_scale",
    "eval_accuracy": "eval_accuracy",
    "eval_loss": "eval_loss",
    "eval_perplexity": "eval_perplexity",
    "gap_to_bound": "gap_to_bound",
    "keep_ratio": "sparsification_ratio",
    "latency_limit_s": "latency_limit_s",
    "lora_rank": "lora_rank",
    "num_clients_in_time": "num_clients_in_time",
    "penalty_weight": "penalty_weight",
    "predicted_round_s": "predicted_round_s",
    "predicted_total_s": "predicted_total_s",
    "queue_s": "queue_s",
    "train_loss": "train_loss",
}
