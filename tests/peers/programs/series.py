"""Laws of whole series, and scores of forecasts."""

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.stats import crps_empirical, energy_score_empirical, weighed_quantile


def case_discrete_hmm():
    results = []
    for steps in (1, 4):
        observation = dist.Normal(torch.randn(steps, 3), 0.5)
        law = dist.DiscreteHMM(torch.randn(3), torch.randn(steps, 3, 3), observation, duration=4)
        x = torch.randn(2, 4)
        last = law.filter(x).logits.log_softmax(-1)
        results.append((list(law.event_shape), law.log_prob(x), last))
    return results


def case_gaussian_hmm():
    results = []
    for steps in (1, 4):
        law = dist.GaussianHMM(
            dist.Normal(torch.randn(2), 1.0).to_event(1),
            torch.randn(steps, 2, 2) * 0.5,
            dist.MultivariateNormal(torch.randn(steps, 2), torch.eye(2) * 0.3),
            torch.randn(steps, 2, 3),
            dist.Normal(torch.randn(steps, 3), torch.rand(steps, 3) + 0.5).to_event(1),
            duration=4,
        )
        x = torch.randn(4, 3)
        last = law.filter(x)
        results.append((law.log_prob(x), last.loc, last.covariance_matrix))
    return results


def case_series_in_a_model():
    x = torch.randn(5, 4)
    noise = dist.Normal(torch.zeros(1), 1.0).to_event(1)

    def model():
        with pyro.plate("series", 5):
            law = dist.GaussianHMM(noise, torch.eye(1), noise, torch.eye(1), noise, duration=4)
            pyro.sample("x", law, obs=x.unsqueeze(-1))

    return pyro.poutine.trace(model).get_trace().log_prob_sum()


def case_scores():
    pred, truth = torch.randn(9, 3, 2), torch.randn(3, 2)
    return crps_empirical(pred, truth), energy_score_empirical(pred.transpose(0, 1), truth)


def case_weighed_quantile():
    return weighed_quantile(torch.randn(6, 3), [0.1, 0.5, 0.9], torch.randn(6))
