locals {
  pull = templatefile("${path.module}/files/pull.sh.tftpl", {
    image       = var.container_image
    registry    = local.ecr == null ? "" : local.registry
    registry_in = local.ecr == null ? "" : local.ecr.region
  })

  pull_at   = "/usr/local/lib/rtvc/pull"
  pull_file = { path = local.pull_at, permissions = "0755", content = local.pull }

  master = {
    write_files = [
      local.pull_file,
      {
        path        = "/usr/local/bin/rtvc-loadtest"
        permissions = "0755"
        content = templatefile("${path.module}/files/rtvc-loadtest.sh.tftpl", {
          region    = local.region
          image     = var.container_image
          workers   = var.workers * var.processes_per_worker
          processes = var.processes_per_worker
          parameter = var.api_key_parameter == null ? "" : var.api_key_parameter
          bucket    = var.results_bucket == null ? "" : var.results_bucket
          name      = var.name
          port      = local.locust_port
          pull      = local.pull_at
          runs      = "/var/lib/rtvc/runs"
        })
      },
    ]
    runcmd = [[local.pull_at]]
  }
  master_data = "#cloud-config\n${jsonencode(local.master)}\n"

  worker = {
    write_files = [
      local.pull_file,
      {
        path        = "/etc/systemd/system/rtvc-worker.service"
        permissions = "0644"
        content = templatefile("${path.module}/files/rtvc-worker.service.tftpl", {
          image     = var.container_image
          master    = aws_instance.master.private_ip
          pull      = local.pull_at
          processes = var.processes_per_worker
        })
      },
    ]
    runcmd = [
      ["systemctl", "daemon-reload"],
      ["systemctl", "enable", "--now", "--no-block", "rtvc-worker.service"],
    ]
  }
  worker_data = "#cloud-config\n${jsonencode(local.worker)}\n"
}
