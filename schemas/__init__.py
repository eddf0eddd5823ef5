"""Facts about data: the event contract, the feature catalogue, curated TFDV schemas."""
