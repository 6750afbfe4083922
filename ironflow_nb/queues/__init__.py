"""Queues of other services, whose messages become events or runs: RabbitMQ, Redis, NATS and SQS behind one port."""
