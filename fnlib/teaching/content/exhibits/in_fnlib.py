"""The museum's tasks in fnlib: one function for each reason that the table gives.

Each returns what it measured; tests/museum/test_in_fnlib.py says what that has to be, and the rooms show them.
"""

import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import fnlib

criterion = nn.functional.cross_entropy


def network():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def batch(size=32):
    return torch.randn(size, 8), torch.randint(0, 3, (size,))


def gradient_is_a_value():
    """Two calls of `backward` return two equal values, and nothing adds up."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    first = model.backward(criterion(model(feature), label))
    second = model.backward(criterion(model(feature), label))
    return all(torch.equal(first[name], second[name]) for name in first)


def objective_starts_without_a_gradient():
    """LBFGS evaluates four times near the same weights: last gradient's length over the first's."""
    rule = fnlib.wrap(torch.optim.LBFGS, lr=1e-6, max_iter=4, tolerance_change=0)
    model = fnlib.Factory(network, optimizer=rule)(fnlib.Parameters(seed=0))
    (feature, label), lengths = batch(), []

    def objective(model):
        loss = criterion(model(feature), label)
        lengths.append(model.backward(loss, retain_graph=True)["0.weight"].norm())
        return loss

    model.step(objective=objective)
    return len(lengths), round((lengths[-1] / lengths[0]).item(), 3)


def nothing_clears_a_gradient():
    """A gradient is used after another `backward`, and the step moves all four weights."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    gradient = model.backward(criterion(model(feature), label))
    model.backward(criterion(model(-feature), label))
    old, new = model.parameters, model.step(gradient)
    return sum(not torch.equal(old[name], new[name]) for name in old)


def backward_is_for_one_model():
    """Is the discriminator's gradient the same with the generator's `backward` before it?"""
    generator = fnlib.Factory(lambda: nn.Linear(4, 2))(fnlib.Parameters(seed=0))
    discriminator = fnlib.Factory(lambda: nn.Linear(2, 1))(fnlib.Parameters(seed=0))
    noise, real = torch.randn(16, 4), torch.randn(16, 2)
    alone = discriminator.backward(-discriminator(real).mean())
    generator.backward(-discriminator(generator(noise)).mean())
    after = discriminator.backward(-discriminator(real).mean())
    return torch.equal(alone["weight"], after["weight"])


def factory_copies_its_network():
    """A layer that is replaced later isn't in the model: it has three outputs, not five."""
    layers = network()
    ModelFactory = fnlib.Factory(layers, optimizer=fnlib.Adam(lr=0.01))
    layers[2] = nn.Linear(16, 5)
    model = ModelFactory(fnlib.Parameters(seed=0))
    return model(batch()[0]).shape[1]


def weight_norm_comes_too_late():
    """Weight normalisation after the factory was made: is the weight trained, is it normalised?"""
    layers = network()
    ModelFactory = fnlib.Factory(layers, optimizer=fnlib.SGD(lr=0.1))
    weight_norm(layers[0])
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    old, new = model.parameters, model.step(model.backward(criterion(model(feature), label)))
    trained = not torch.equal(old["0.weight"], new["0.weight"])
    return trained, any("original" in name for name in new)


def rule_holds_no_weights():
    """Rule and factory are made before there are weights, and the step moves all four."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    old, new = model.parameters, model.step(model.backward(criterion(model(feature), label)))
    return sum(not torch.equal(old[name], new[name]) for name in old)


def moments_are_in_the_parameters():
    """A rule is made in each of four epochs, and Adam's step count goes on to twelve."""
    parameters = fnlib.Parameters(seed=0)
    for epoch in range(4):
        ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(lr=0.01))
        for _ in range(3):
            model = ModelFactory(parameters)
            feature, label = batch()
            parameters = model.step(model.backward(criterion(model(feature), label)))
    return int(parameters.optimizer_state["state"]["0.weight"]["step"])


def moments_go_by_name():
    """The layers are built again in the other order: does each keep its own moments?"""
    def build(*names):
        layers = nn.Sequential()
        for name in names:
            layers.add_module(name, nn.Linear(8, 8, bias=False))
        return fnlib.Factory(layers, optimizer=fnlib.Adam(lr=0.1))

    model = build("one", "other")(fnlib.Parameters(seed=0))
    saved = model.step(model.backward(model(batch()[0]).pow(2).mean()))
    again = build("other", "one")(saved).parameters
    old, new = (each.optimizer_state["state"] for each in (saved, again))
    return all(torch.equal(old[name]["exp_avg"], new[name]["exp_avg"]) for name in old)


def parameters_before_a_load():
    """A load into the module comes too late: how many of 4 weights are trained, how many loaded?"""
    module, pretrained = network(), network().state_dict()
    model = fnlib.Factory(module)(fnlib.Parameters.from_module(module))
    module.load_state_dict(pretrained, assign=True)
    feature, label = batch()
    old, new = model.parameters, model.step(model.backward(criterion(model(feature), label)))
    trained = sum(not torch.equal(old[name], new[name]) for name in old)
    return trained, sum(torch.equal(old[name], pretrained[name]) for name in old)


def one_gradient_two_steps():
    """Two steps with one gradient move the weights twice as far."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    gradient = model.backward(criterion(model(feature), label))
    after_a = model.step(gradient)
    after_b = ModelFactory(after_a).step(gradient)
    moved = (after_b["0.weight"] - model.parameters["0.weight"]).norm()
    return round((moved / (0.1 * gradient["0.weight"]).norm()).item(), 3)


class TiedPair(nn.Module):
    """Encode and decode with one weight."""

    def __init__(self):
        super().__init__()
        self.embed, self.decode = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        self.decode.weight = self.embed.weight

    def forward(self, tokens):
        return self.decode(torch.tanh(self.embed(tokens)))


def tie_is_taken_as_it_is():
    """A tied module has one entry. After a load with `assign=True` it has two."""
    tied, untied = TiedPair(), TiedPair()
    checkpoint = {name: weight.clone() for name, weight in tied.state_dict().items()}
    untied.load_state_dict(checkpoint, assign=True)
    return [list(fnlib.Parameters.from_module(pair)) for pair in (tied, untied)]


def parts_are_taken_as_they_are():
    """The tied teacher has one entry. A student made of two copied parts has two."""
    teacher, student = TiedPair(), TiedPair()
    student.embed, student.decode = copy.deepcopy(teacher.embed), copy.deepcopy(teacher.decode)
    return [list(fnlib.Parameters.from_module(pair)) for pair in (teacher, student)]


def name_is_a_snapshot():
    """`best = parameters` is enough: training makes new values and leaves the old ones alone."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    best = model.parameters
    best_loss = criterion(model(feature), label).item()
    for _ in range(3):
        loss = criterion(model(feature), label)
        model = ModelFactory(model.step(model.backward(loss)))
    return criterion(ModelFactory(best)(feature), label).item() == best_loss


def model_is_a_snapshot():
    """`best_model = model` is enough: its loss is still the one it had when it was kept."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    best_model, best_loss = model, criterion(model(feature), label)
    for _ in range(3):
        loss = criterion(model(feature), label)
        model = ModelFactory(model.step(model.backward(loss)))
    return torch.equal(criterion(best_model(feature), label), best_loss)


def checkpoint_is_a_name():
    """The parameters after the second of four steps are kept: Adam's step count in them is 2."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    for index in range(4):
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
        if index == 1:
            checkpoint = model.parameters
    return int(checkpoint.optimizer_state["state"]["0.weight"]["step"])


def student_starts_from_its_teacher():
    """The student takes 3 more steps: the teacher's moments count 3 steps, the student's 6."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.Adam(lr=0.1))

    def train(parameters):
        for _ in range(3):
            model, (feature, label) = ModelFactory(parameters), batch()
            parameters = model.step(model.backward(criterion(model(feature), label)))
        return parameters

    teacher = train(fnlib.Parameters(seed=0))
    states = [each.optimizer_state["state"] for each in (teacher, train(teacher))]
    return [int(state["0.weight"]["step"]) for state in states]


def old_weight_stays():
    """`before` is the weight itself, and it differs from the weight after three steps."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    before = model.parameters["0.weight"]
    for _ in range(3):
        feature, label = batch()
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    return bool((model.parameters["0.weight"] - before).norm() > 0)


def target_stays():
    """`target_net = policy_net` is enough: after three steps it answers as it did."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    policy_net = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    target_net, answer = policy_net, policy_net(feature)
    for _ in range(3):
        loss = criterion(policy_net(feature), label)
        policy_net = ModelFactory(policy_net.step(policy_net.backward(loss)))
    return torch.equal(target_net(feature), answer)


def average_under_the_same_name():
    """A model gets the average to validate: how many of 4 weights take the next step from it?"""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = start = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    for _ in range(2):
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    average = start.parameters.lerp(model.parameters, 0.5)
    model = ModelFactory(average)
    gradient = model.backward(criterion(model(feature), label))
    after = model.step(gradient)
    from_it = {name: average[name] - 0.1 * gradient[name] for name in average}
    return sum(torch.allclose(after[name], from_it[name]) for name in average)


def load_leaves_out():
    """The names have another prefix: of the encoder's two weights, none is loaded, silently."""
    module, pretrained = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), nn.Linear(8, 8)
    saved = pretrained.state_dict()
    module.load_state_dict(saved, strict=False)
    parameters = fnlib.Parameters.from_module(module)
    return sum(torch.equal(parameters[f"0.{name}"], saved[name]) for name in saved)


def statistics_are_refused():
    """A forward pass that changes statistics raises, also under `inference_mode`."""
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)))
    model = ModelFactory(fnlib.Parameters(seed=0))
    with torch.inference_mode():
        return model(batch()[0])


def eval_model_trains():
    """A model in evaluation mode takes a step without an error, and without dropout."""
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)))
    model = ModelFactory(fnlib.Parameters(seed=0)).eval()
    feature = batch()[0]
    calm = torch.equal(model(feature), model(feature))
    return calm, model.step(model.backward(model(feature).pow(2).mean())).step_count


def mode_is_training_unless_said():
    """Bound without `training=False`: two calls give different answers."""
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature = batch()[0]
    return not torch.equal(model(feature), model(feature))


class Dropping(nn.Module):
    """Drops half of its input with a function."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


def functional_dropout_has_no_mode():
    """Bound with `training=False`, and `F.dropout` still draws a mask in each of two calls."""
    model = fnlib.Factory(Dropping)(fnlib.Parameters(seed=0), training=False)
    feature = batch()[0]
    return not torch.equal(model(feature), model(feature))


def mode_holds_for_one_binding():
    """The frozen mode is passed for one binding, and the next is in training mode again."""
    ModelFactory = fnlib.Factory(
        lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    )
    model = ModelFactory(fnlib.Parameters(seed=0), training={"1": False})
    for _ in range(3):
        feature, label = batch()
        output, buffers = model.with_buffers(feature)
        parameters = model.step(model.backward(criterion(output, label)), buffers=buffers)
        model = ModelFactory(parameters)
    return parameters.buffers["1.num_batches_tracked"].item()


def frozen_part_has_statistics():
    """The weights of the backbone are frozen, and its statistics move in each of three steps."""
    layers = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    layers[:2].requires_grad_(False)
    ModelFactory = fnlib.Factory(layers)
    model = ModelFactory(fnlib.Parameters.from_module(layers))
    for _ in range(3):
        feature, label = batch()
        output, buffers = model.with_buffers(feature)
        parameters = model.step(model.backward(criterion(output, label)), buffers=buffers)
        model = ModelFactory(parameters)
    return parameters.buffers["1.num_batches_tracked"].item()


def forward_leaves_the_old_statistics():
    """A training forward between a forward and its `backward`: the gradient is right."""
    ModelFactory = fnlib.Factory(
        lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    )
    model = ModelFactory(fnlib.Parameters(seed=0))
    clean, noisy = torch.randn(32, 8), torch.randn(32, 8) * 5 + 3
    calm = model.eval()
    right = calm.backward(calm(clean).pow(2).mean())
    loss = calm(clean).pow(2).mean()
    model.with_buffers(noisy)
    return torch.allclose(calm.backward(loss)["0.weight"], right["0.weight"])


def zeros_are_an_entry():
    """Without an entry a weight stays as it is. With an entry of zeros its momentum moves it."""
    rule = fnlib.SGD(lr=0.1, momentum=0.9)
    ModelFactory = fnlib.Factory(network, optimizer=rule)
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    gradient = model.backward(criterion(model(feature), label))
    absent = {name: part for name, part in gradient.items() if name.startswith("2.")}
    zeros = {**absent, "0.weight": torch.zeros_like(gradient["0.weight"])}
    before = model.parameters["0.weight"]
    after = [model.step(part)["0.weight"] for part in (absent, zeros)]
    return ["stays" if torch.equal(each, before) else "moves" for each in after]


def freeze_comes_too_late():
    """The first layer is frozen after `backward`, and a step with that gradient moves it."""
    layers = network()
    model = fnlib.Factory(layers)(fnlib.Parameters.from_module(layers))
    feature, label = batch()
    gradient = model.backward(criterion(model(feature), label))
    layers[0].requires_grad_(False)
    frozen = fnlib.Factory(layers)(model.parameters)
    old, new = frozen.parameters, frozen.step(gradient)
    return [name for name in old if not torch.equal(old[name], new[name])]


def freeze_without_effect():
    """An attribute of the module freezes nothing: its weights still get a gradient."""
    layers = network()
    layers[0].requires_grad = False
    model = fnlib.Factory(layers)(fnlib.Parameters.from_module(layers))
    feature, label = batch()
    return list(model.backward(criterion(model(feature), label)))


def freeze_undone():
    """The freeze is undone before the factory is made: the layer's weights get a gradient."""
    layers = network()
    layers[0].requires_grad_(False)
    layers.requires_grad_(True)
    model = fnlib.Factory(layers)(fnlib.Parameters.from_module(layers))
    feature, label = batch()
    return list(model.backward(criterion(model(feature), label)))


def model_without_gradient():
    """The head's loss doesn't reach the encoder, so the encoder's `backward` raises."""
    encoder = fnlib.Factory(lambda: nn.Linear(8, 16))(fnlib.Parameters(seed=0))
    head = fnlib.Factory(lambda: nn.Linear(16, 3))(fnlib.Parameters(seed=1))
    feature, label = batch()
    loss = criterion(head(torch.relu(encoder(feature).data)), label)
    head.step(head.backward(loss, retain_graph=True))
    encoder.step(encoder.backward(loss))


def clip_after_the_step():
    """The gradient is clipped after the step, and the step is as long as without clipping."""
    model = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))(fnlib.Parameters(seed=0))
    feature, label = batch()
    gradient = model.backward(criterion(model(feature), label))
    old, new = model.parameters["0.weight"], model.step(gradient)["0.weight"]
    clipped = gradient.clip_norm(0.001)
    assert clipped["0.weight"].norm() < gradient["0.weight"].norm()
    return torch.allclose(old - new, 0.1 * gradient["0.weight"], rtol=1e-3, atol=1e-6)


def zero_gradient_decays():
    """A gradient of zeros is a gradient, so weight decay moves the weight."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.AdamW(lr=0.1, weight_decay=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    zeros = fnlib.Gradient(
        {name: torch.zeros_like(weight) for name, weight in model.parameters.items()}
    )
    return not torch.equal(model.step(zeros)["0.weight"], model.parameters["0.weight"])


def rate_follows_the_step_count():
    """A warm-up to 0.1: rate of the first step, and of step 6 with a rule made at that point."""
    def warm_up(step):
        return 0.1 * min(1, 0.01 + 0.2 * step)

    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=warm_up))
    model = start = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    for _ in range(5):
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=warm_up))
    return start.rates, ModelFactory(model.parameters).rates


def schedule_counts_steps():
    """A rate that should fall every two epochs falls every two steps: four rates in eight steps."""
    rule = fnlib.SGD(lr=lambda epoch: 0.1 * 0.1 ** (epoch // 2))
    ModelFactory = fnlib.Factory(network, optimizer=rule)
    model, rates = ModelFactory(fnlib.Parameters(seed=0)), set()
    for _ in range(8):
        feature, label = batch()
        rates.add(round(model.rates, 9))        # the rate of its next step
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    return len(rates)


def cosine_counts_steps():
    """A cosine meant for four epochs: how often does the rate rise in 32 steps?"""
    def cosine(epoch):
        return 0.05 + 0.05 * torch.cos(torch.tensor(epoch * torch.pi / 4)).item()

    rule = fnlib.SGD(lr=cosine)
    ModelFactory = fnlib.Factory(network, optimizer=rule)
    model, rates = ModelFactory(fnlib.Parameters(seed=0)), []
    for _ in range(32):
        feature, label = batch()
        rates.append(model.rates)
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    return sum(new > old for old, new in zip(rates, rates[1:]))


def new_rule_needs_a_factory():
    """A new rule is made in each epoch, but the factory keeps the first one."""
    rule = fnlib.SGD(lr=0.1)
    ModelFactory = fnlib.Factory(network, optimizer=rule)
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    for epoch in range(3):
        rule = fnlib.SGD(lr=0.1 * 0.5**epoch)
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    return model.rates


def schedule_is_part_of_its_rule():
    """The rule is replaced, and its schedule is gone too: the new rule's rate never changes."""
    rule = fnlib.SGD(lr=lambda step: 0.1 * 0.5**step)
    rule = fnlib.Adam(lr=0.01)
    ModelFactory = fnlib.Factory(network, optimizer=rule)
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    for _ in range(3):
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    return model.rates


def groups_have_their_own_rates():
    """Only the first layer has the schedule: the rate of the other one stays as it is."""
    halved = {"lr": lambda step: 0.1 * 0.5**step}
    rule = fnlib.SGD(lr=0.1, groups=lambda name, weight: halved if name.startswith("0.") else {})
    ModelFactory = fnlib.Factory(network, optimizer=rule)
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    for _ in range(3):
        model = ModelFactory(model.step(model.backward(criterion(model(feature), label))))
    return sorted(model.rates.values())         # one rate for each group


def rate_of_the_factory_counts():
    """The same parameters in factories with rates 0.1 and 0.001: the ratio of their steps."""
    feature, label = batch()
    first = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))(fnlib.Parameters(seed=0))
    trained = first.step(first.backward(criterion(first(feature), label)))
    steps = []
    for lr in (0.1, 0.001):
        model = fnlib.Factory(network, optimizer=fnlib.SGD(lr=lr))(trained)
        gradient = model.backward(criterion(model(feature), label))
        steps.append((trained["0.weight"] - model.step(gradient)["0.weight"]).norm().item())
    return round(steps[0] / steps[1])


def autocast_sees_new_weights():
    """One autocast around the loop: each step's weights are new tensors, so they are cast anew."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model, losses = ModelFactory(fnlib.Parameters(seed=0)), set()
    feature, label = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(4):
            loss = criterion(model(feature), label)
            losses.add(loss.item())
            model = ModelFactory(model.step(model.backward(loss)))
    return len(losses)


def step_between_backwards():
    """The discriminator steps first, and the generator's `backward` still has the old weights."""
    rule = fnlib.wrap(torch.optim.Adam, lr=0.1, fused=True)
    Generator = fnlib.Factory(lambda: nn.Linear(4, 2), optimizer=rule)
    Discriminator = fnlib.Factory(lambda: nn.Linear(2, 1), optimizer=rule)
    generator = Generator(fnlib.Parameters(seed=0))
    discriminator = Discriminator(fnlib.Parameters(seed=0))
    noise = torch.randn(16, 4)
    right = generator.backward(-discriminator(generator(noise)).mean())
    score = discriminator(generator(noise)).mean()
    better = discriminator.step(discriminator.backward(score, retain_graph=True))
    assert not torch.equal(better["weight"], discriminator.parameters["weight"])
    return torch.allclose(generator.backward(-score)["weight"], right["weight"])


def clip_reaches_a_copy():
    """Weights are clipped through `.data`: is the gradient right, and are the weights clipped?"""
    critic = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    feature = batch()[0]
    right = critic.backward(critic(feature).mean())
    loss, old = critic(feature).mean(), critic.parameters["0.weight"].clone()
    for weight in critic.parameters.values():
        weight.data.clamp_(-0.1, 0.1)
    gradient = critic.backward(loss)
    right_gradient = torch.equal(gradient["0.weight"], right["0.weight"])
    return right_gradient, not torch.equal(critic.parameters["0.weight"], old)


def activation_can_be_edited():
    """`.data` of an activation can be overwritten: is the gradient wrong in fnlib as well?"""
    model = fnlib.Factory(lambda: nn.Linear(8, 8))(fnlib.Parameters(seed=0))
    feature = batch()[0]
    right = model.backward(torch.exp(model(feature)).sum())
    code = torch.exp(model(feature))
    loss = code.sum()
    code.data.clamp_(max=1.0)
    gradient = model.backward(loss)
    return not torch.allclose(gradient["weight"], right["weight"])


def data_can_be_edited():
    """Three passes normalise the data in place: by what factor have they shrunk it?"""
    model = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    features = 4 * batch()[0] + 5
    at_first = features.std()
    for epoch in range(3):
        for feature in features.split(16):
            feature -= 5
            feature /= 4
            model(feature)
    return round((at_first / features.std()).item())


def total_keeps_graphs():
    """A running total of losses keeps their graphs in fnlib as well."""
    ModelFactory = fnlib.Factory(network)
    model, total = ModelFactory(fnlib.Parameters(seed=0)), 0
    for _ in range(5):
        feature, label = batch()
        loss = criterion(model(feature), label)
        model = ModelFactory(model.step(model.backward(loss)))
        total += loss
    return total.grad_fn is not None


def hidden_state_stops_at_the_weights():
    """Are gradients equal without `detach` and with it? How many nodes are behind `hidden` then?"""
    ModelFactory = fnlib.Factory(lambda: nn.RNN(4, 8, batch_first=True))
    chunks = torch.randn(2, 2, 5, 4)
    gradients, nodes = [], []
    for detach in (False, True):
        model = ModelFactory(fnlib.Parameters(seed=0))
        output, hidden = model(chunks[0])
        model = ModelFactory(model.step(model.backward(output.pow(2).mean())))
        output, hidden = model(chunks[1], hidden.detach() if detach else hidden)
        gradients.append(model.backward(output.pow(2).mean()))
        nodes.append(size_of_graph(hidden))
    return all(torch.equal(gradients[0][n], gradients[1][n]) for n in gradients[0]), nodes


def size_of_graph(tensor):
    """Count the nodes of the graph behind a tensor."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [inner for inner, _ in node.next_functions]
    return len(seen)


def hidden_state_retained():
    """`retain_graph=True` raises no error. How many nodes does the graph have after each piece?"""
    ModelFactory = fnlib.Factory(lambda: nn.RNN(4, 8, batch_first=True))
    model, hidden, nodes = ModelFactory(fnlib.Parameters(seed=0)), None, []
    for _ in range(3):
        output, hidden = model(torch.randn(2, 5, 4), hidden)
        gradient = model.backward(output.pow(2).mean(), retain_graph=True)
        model = ModelFactory(model.step(gradient))
        nodes.append(size_of_graph(hidden))
    return nodes


def draws_are_pytorchs():
    """All initial weights come from one generator: an extra layer shifts the later ones."""
    starts = []
    for sizes in ((8, 4, 3), (8, 4, 4, 3)):
        layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        starts.append(fnlib.Sequential(*layers)(fnlib.Parameters(seed=0)).parameters)
    short, long = starts
    first = torch.equal(short["0.weight"], long["0.weight"])
    last = torch.equal(short["1.weight"], long["2.weight"])
    return ["same" if each else "different" for each in (first, last)]


def own_draws():
    """The generator is reset before each draw, so in `fnlib`, too, all four noises are the same."""
    state, noises = torch.get_rng_state(), set()
    model = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    for _ in range(4):
        torch.set_rng_state(state)
        noise = torch.randn(32, 8)
        model(noise)
        noises.add(noise.sum().item())
    return len(noises)


def masks(seed):
    """Count the different dropout masks of five steps, with a global seed set before each."""
    ModelFactory = fnlib.Factory(
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1)), optimizer=fnlib.SGD(lr=0.0)
    )
    parameters, outputs = fnlib.Parameters(seed=0), set()
    for _ in range(5):
        torch.manual_seed(42)
        model = ModelFactory(parameters, seed=seed)
        output = model(torch.ones(1, 64))
        outputs.add(output.item())
        parameters = model.step(model.backward(output.sum()))
    return len(outputs)


def seed_is_folded():
    """Without `seed=` each step has the same mask, here too. With it each has its own."""
    return [masks(seed=None), masks(seed=7)]


class OwnRule:
    """A rule with the museum's mistakes: it keeps the gradient and scales its average in place."""

    def __init__(self, lr=0.1):
        self.lr = lr

    def init(self, weights):
        return {}

    def update(self, weights, gradient, state):
        average = {name: state[name].mul_(0.9).add_(part) if state else part
                   for name, part in gradient.items()}
        update = {name: part.mul_(self.lr) for name, part in average.items()}
        return {name: weight - update[name] for name, weight in weights.items()}, average


def own_rule_is_trusted():
    """A rule that scales its average in place keeps the scaled one."""
    ModelFactory = fnlib.Factory(network, optimizer=OwnRule(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    gradient = model.backward(criterion(model(feature), label))
    average = model.step(gradient).optimizer_state["0.weight"]
    return round((average.norm() / gradient["0.weight"].norm()).item(), 3)


def own_rule_has_an_attribute():
    """The averages are in an attribute of the rule, and the state in the parameters is empty."""
    class Rule:
        kept = {}
        def init(self, weights):
            return {}
        def update(self, weights, gradient, state):
            self.kept = {n: 0.9 * self.kept.get(n, 0) + part for n, part in gradient.items()}
            return {n: weight - 0.1 * self.kept[n] for n, weight in weights.items()}, {}
    model = fnlib.Factory(network, optimizer=Rule())(fnlib.Parameters(seed=0))
    feature, label = batch()
    parameters = model.step(model.backward(criterion(model(feature), label)))
    return len(parameters.optimizer_state)


def rule_is_given_copies():
    """A rule may write into what it gets: the gradient and the old state stay as they were."""
    ModelFactory = fnlib.Factory(network, optimizer=OwnRule())
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    gradient = model.backward(criterion(model(feature), label))
    before = gradient["0.weight"].clone()
    parameters = model.step(gradient)
    state = parameters.optimizer_state["0.weight"].clone()
    ModelFactory(parameters).step(gradient)
    return torch.equal(before, gradient["0.weight"]), torch.equal(
        state, parameters.optimizer_state["0.weight"]
    )


def rate_on_the_object():
    """A rule can't be changed once it's made, so setting its rate is refused."""
    rule = fnlib.SGD(lr=0.1)
    rule.lr = 0.01


def loss_without_weights():
    """A loss without a weight in its graph is refused."""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    loss = torch.tensor(criterion(model(feature), label).item(), requires_grad=True)
    return model.backward(loss)


class Scale(nn.Module):
    """Scales itself by its first batch, and remembers that in an attribute."""

    def __init__(self):
        super().__init__()
        self.ready = False
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        if not self.ready:
            self.scale.data = 1 / x.std(0)
            self.ready = True
        return x * self.scale


def hidden_attribute_is_refused():
    """The flag is an attribute of the module, which parameters can't hold."""
    module = Scale()
    module.load_state_dict({"scale": torch.full((8,), 2.0)})
    model = fnlib.Factory(Scale)(fnlib.Parameters.from_module(module))
    return model(batch()[0])


class Stack(nn.Module):
    """Keeps two of its layers in a Python list."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(8, 8), nn.Linear(8, 8)]
        self.head = nn.Linear(8, 3)


def layers_in_a_list_stay():
    """The parameters contain only what the network registers: the head."""
    parameters = fnlib.Factory(Stack)(fnlib.Parameters(seed=0)).parameters
    return list(parameters)


def step_left_out():
    """Three gradients are computed and none is used: how many different losses?"""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    feature, label = batch()
    losses = set()
    for _ in range(3):
        loss = criterion(model(feature), label)
        model.backward(loss)
        losses.add(loss.item())
    return len(losses)


def update_binds_a_name():
    """The update is written by hand and bound to the loop's name: how many weights move?"""
    model = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    start, (feature, label) = model.parameters, batch()
    for _ in range(3):
        gradient = model.backward(criterion(model(feature), label))
        for name, weight in model.parameters.items():
            weight = weight - 0.1 * gradient[name]
    return sum(not torch.equal(start[name], model.parameters[name]) for name in start)


def step_after_the_loop():
    """Three epochs of four batches, a step for each epoch: how many of 12 gradients are used?"""
    ModelFactory = fnlib.Factory(network, optimizer=fnlib.SGD(lr=0.1))
    model = ModelFactory(fnlib.Parameters(seed=0))
    batches = [batch() for _ in range(4)]
    for epoch in range(3):
        for feature, label in batches:
            gradient = model.backward(criterion(model(feature), label))
        model = ModelFactory(model.step(gradient))
    return model.parameters.step_count


def scaled_gradient_is_yours():
    """The loss times 1024 has a gradient that is 1024 times as long."""
    model = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    feature, label = batch()
    scaled = model.backward(1024 * criterion(model(feature), label))
    plain = model.backward(criterion(model(feature), label))
    return round((scaled["0.weight"].norm() / plain["0.weight"].norm()).item())


def average_keeps_its_own_buffers():
    """`buffers="own"` averages the weights alone: are the statistics still the initial ones?"""
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)))
    start = ModelFactory(fnlib.Parameters(seed=0)).parameters
    output, buffers = ModelFactory(start).with_buffers(batch()[0] + 3)
    newest = start.replace(buffers=buffers)
    average = start.lerp(newest, 0.5, buffers="own")
    return torch.equal(average.buffers["1.running_mean"], start.buffers["1.running_mean"])


def layer_repeated():
    """One layer in four places is one layer in `fnlib` as well: how many weights and biases?"""
    ModelFactory = fnlib.Factory(lambda: nn.Sequential(*[nn.Linear(8, 8)] * 4))
    return len(ModelFactory(fnlib.Parameters(seed=0)).parameters)


def validation_takes_the_names():
    """A validation batch is bound to the names of the training batch: is it trained on?"""
    model = fnlib.Factory(network)(fnlib.Parameters(seed=0))
    train, valid = batch(), batch()
    feature, label = train
    feature, label = valid
    criterion(model(feature), label)
    gradient = model.backward(criterion(model(feature), label))
    of_valid = model.backward(criterion(model(valid[0]), valid[1]))
    return torch.equal(gradient["0.weight"], of_valid["0.weight"])
