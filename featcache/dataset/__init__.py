"""The dataset: images and their labels, groups, splits, views and regions."""
