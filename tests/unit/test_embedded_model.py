import json
import subprocess
import sys
from copy import deepcopy
from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from cosim.learning.embedded import CONFIG_FILE, END, FOLDER, REPORT_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from cosim.learning.embedded.grammar import DOMAINS, HELD_OUT, SEPARATOR, examples, split
from cosim.learning.embedded.pretrain import SEEN, measured_losses, pretrain

BUILT_FILES = {CONFIG_FILE, REPORT_FILE, TOKENIZER_FILE, "tokenizer_config.json", WEIGHTS_FILE}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(FOLDER / TOKENIZER_FILE))


@pytest.fixture(scope="module")
def report():
    return json.loads((FOLDER / REPORT_FILE).read_text())


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)


def target_loss(model, tokenizer, some):
    """Mean loss of a target token; by its own road, one example after the other."""
    losses = []
    for example in some:
        prompt = tokenizer.encode(example.mr + SEPARATOR).ids
        target = tokenizer.encode(example.text + END).ids
        logits = model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
        losses.append(cross_entropy(logits, torch.tensor(target), reduction="none"))
    return torch.cat(losses).mean()


def test_the_built_files_are_there_and_stay_below_two_megabytes():
    found = {
        path.name: path.stat().st_size
        for path in FOLDER.iterdir()
        if path.suffix in (".json", ".safetensors")
    }
    assert set(found) == BUILT_FILES
    assert sum(found.values()) <= 2_000_000


def test_the_report_names_the_files_beside_it(report):
    for name, digest in report["sha256"].items():
        assert sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert set(report["sha256"]) == {WEIGHTS_FILE, TOKENIZER_FILE}


@pytest.mark.parametrize(
    "domains", [(DOMAINS[0], HELD_OUT), pytest.param(DOMAINS, marks=pytest.mark.slow)], ids=["two", "all"]
)
def test_the_reported_losses_are_those_of_the_files(domains, report):
    reported = {domain: report["target_loss_by_domain"][domain] for domain in domains}
    assert report["target_loss_by_domain"].keys() == set(DOMAINS)
    assert measured_losses(FOLDER, domains) == pytest.approx(reported, rel=1e-3)


def test_the_base_is_fluent_in_every_domain_but_the_held_out_one(model, tokenizer):
    model.eval()
    with torch.no_grad():
        losses = {name: float(target_loss(model, tokenizer, split(name, 0, 20, 3)[1])) for name in DOMAINS}
    assert max(losses[name] for name in SEEN) < 1.0
    assert losses[HELD_OUT] > 2.5


def test_the_base_tells_the_name_it_is_asked_to(model, tokenizer):
    _, asked = split("restaurant", 0, 10, 8)
    end = tokenizer.token_to_id(END)
    told = 0
    for example in asked:
        prompt = torch.tensor([tokenizer.encode(example.mr + SEPARATOR).ids])
        with torch.no_grad():
            answer = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=50,
                do_sample=False,
                eos_token_id=end,
            )
        text = tokenizer.decode(answer[0, prompt.shape[1] :].tolist())
        told += example.slots["name"] in text and text.endswith(".")
    assert told >= 9


@given(st.sampled_from(DOMAINS), st.integers(min_value=0, max_value=2**63))
@settings(deadline=None, max_examples=50)
def test_generated_text_survives_the_tokenizer(domain, seed):
    tokenizer = Tokenizer.from_file(str(FOLDER / TOKENIZER_FILE))
    for example in examples(domain, 5, seed):
        line = example.mr + SEPARATOR + example.text
        assert tokenizer.decode(tokenizer.encode(line).ids) == line
        apart = tokenizer.encode(example.mr + SEPARATOR).ids + tokenizer.encode(example.text).ids
        assert tokenizer.encode(line).ids == apart


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None, max_examples=50)
def test_any_text_survives_the_tokenizer(text):
    tokenizer = Tokenizer.from_file(str(FOLDER / TOKENIZER_FILE))
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("domain", DOMAINS)
def test_ninety_nine_of_a_hundred_sequences_have_at_most_64_tokens(domain, tokenizer):
    lines = [example.mr + SEPARATOR + example.text + END for example in examples(domain, 1000, seed=11)]
    lengths = [len(encoded.ids) for encoded in tokenizer.encode_batch(lines)]
    assert sum(length <= 64 for length in lengths) >= 0.99 * len(lengths)
    assert max(lengths) <= 128


def test_every_way_to_load_the_tokenizer_gives_the_same_one(tokenizer):
    text = examples("hotel", 1, seed=1)[0].text + END
    by_file = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / TOKENIZER_FILE))
    by_folder = AutoTokenizer.from_pretrained(FOLDER)
    assert by_file(text).input_ids == by_folder(text).input_ids == tokenizer.encode(text).ids


def test_one_token_begins_ends_and_pads(model, tokenizer):
    end = tokenizer.token_to_id(END)
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (end, end, end)
    by_folder = AutoTokenizer.from_pretrained(FOLDER)
    assert (by_folder.bos_token_id, by_folder.eos_token_id, by_folder.pad_token_id) == (end, end, end)


def test_the_model_is_a_small_gpt2_in_single_precision(model, tokenizer, report):
    assert type(model).__name__ == model.config.architectures[0] == "GPT2LMHeadModel"
    assert model.config.vocab_size == tokenizer.get_vocab_size()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert sum(parameter.numel() for parameter in model.parameters()) == report["parameters"]


@pytest.mark.parametrize("num_steps", [0, -1])
def test_pre_training_without_a_step_is_refused(num_steps, tmp_path):
    with pytest.raises(ValueError, match=f"at least one step, got {num_steps}"):
        pretrain(tmp_path, num_steps)


@pytest.mark.slow
def test_pre_training_twice_gives_the_same_bytes_in_another_process_too(tmp_path):
    pretrain(tmp_path / "here", num_steps=20)
    module = "cosim.learning.embedded.pretrain"
    command = [sys.executable, "-m", module, "--steps", "20", "--out", str(tmp_path / "there")]
    subprocess.run(command, check=True, capture_output=True)
    for name in BUILT_FILES:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


@pytest.mark.slow
def test_the_tokenizer_is_rebuilt_byte_for_byte(tmp_path):
    pretrain(tmp_path, num_steps=1)
    assert (tmp_path / TOKENIZER_FILE).read_bytes() == (FOLDER / TOKENIZER_FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # PEFT asks for it
def test_a_few_hundred_lora_steps_teach_the_base_the_held_out_domain(model, tokenizer):
    from peft import LoraConfig, get_peft_model

    train, test = split(HELD_OUT, 8 * 200, 50, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        lora = LoraConfig(
            r=8, lora_alpha=16, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM"
        )
        adapted = get_peft_model(deepcopy(model), lora)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=3e-3)
    with torch.no_grad():
        before = float(target_loss(adapted, tokenizer, test))
    for first in range(0, len(train), 8):
        target_loss(adapted, tokenizer, train[first : first + 8]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = float(target_loss(adapted, tokenizer, test))
    assert before > 2.5
    assert after < 1.5
