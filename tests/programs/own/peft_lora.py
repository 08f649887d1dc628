"""Train LoRA adapters on a frozen, tiny GPT-2 with PEFT, then merge them."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

if __name__ == "__main__":
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["c_attn"]
    )
    model = get_peft_model(model, lora)
    model.print_trainable_parameters()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(0, 50, (64, 16))
    for epoch in range(2):
        model.train()
        total = 0.0
        for batch in tokens.split(8):
            loss = model(input_ids=batch, labels=batch).loss
            total += loss.detach().float()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            kept = model(input_ids=tokens[:8], labels=tokens[:8]).loss
        print(f"epoch {epoch}: {total:.6f} {kept:.6f}")
    merged = model.merge_and_unload()
    with torch.no_grad():
        print(f"merged: {merged(input_ids=tokens[:8], labels=tokens[:8]).loss:.6f}")
