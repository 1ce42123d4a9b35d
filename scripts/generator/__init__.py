"""The diffusion models: networks, noise, samplers and the synthetic sets they draw."""
