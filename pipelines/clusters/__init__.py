"""Clusters of labels: rare labels learn together with what means nearly the same.

cluster_labels(labels, encoder, settings)   groups of the labels that pictures carry
read_clusters(file)                         what `python -m pipelines.clusters` wrote
"""

from pipelines.clusters.files import read_clusters, write_clusters
from pipelines.clusters.labels import Clusters, ClusterSettings, cluster_labels

__all__ = ["ClusterSettings", "Clusters", "cluster_labels", "read_clusters", "write_clusters"]
