"""What runs the servers in production: images, manifests, configs, a dashboard."""
